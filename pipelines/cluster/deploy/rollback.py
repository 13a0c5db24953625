"""The last roll-out of a Deployment taken back, on the cluster and in its overlay."""

from __future__ import annotations

from pathlib import Path

from components.errors import ClusterError
from pipelines.cluster.deploy.deploy import SECONDS_AROUND
from pipelines.cluster.deploy.lease import held_lease
from pipelines.cluster.deploy.pin import PINNED, write_pinned
from pipelines.cluster.deploy.rollout import revisions_of
from pipelines.cluster.deploy.snapshot import Report, Snapshot, follow
from pipelines.cluster.deploy.verify import verify
from pipelines.cluster.deploy.workloads import Workload
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import load_overlay


def rollback(
    folder: Path, name: str, to_revision: int | None, kubectl: Kubectl, seconds: float, report: Report
) -> Workload:
    """Roll a Deployment back, to its revision before or to another one, and write into ``pinned/`` what then runs.

    Raises:
        RecipeError: the folder is no overlay of Lorry's.
        BusyError: a deploy is running there.
        ClusterError: there is nothing to go back to, or it does not come up.
    """
    overlay = load_overlay(kubectl, folder)
    here = kubectl.in_namespace(overlay.namespace)
    with held_lease(here, int(seconds) + SECONDS_AROUND):
        revision = _target(Snapshot.read(here), name, to_revision, here)
        report(here.command("rollout", "undo", f"deployment/{name}", f"--to-revision={revision}"))
        here.run("rollout", "undo", f"deployment/{name}", f"--to-revision={revision}")
        running = follow(here, [name], seconds, report).workload(name)
        assert running is not None
        write_pinned(folder / PINNED, _by_name(running), name, running.model)
        report(f"written into {folder / PINNED}: {', '.join(sorted(set(running.images.values())))}")
        if running.serves_a_model:
            report(f"{name}: the model {running.model}")
            verify(load_overlay(kubectl, folder), running, here, report)
    return running


def _target(snapshot: Snapshot, name: str, wanted: int | None, kubectl: Kubectl) -> int:
    if name not in snapshot.deployments:
        known = ", ".join(sorted(snapshot.deployments)) or "none of Lorry's"
        raise ClusterError(f"namespace {kubectl.namespace}: no Deployment {name!r}; it has {known}")
    current = int(snapshot.rollout(name).revision)
    others = sorted(set(revisions_of(name, snapshot.replica_sets)) - {current})
    if wanted is None and not others:
        raise ClusterError(f"deployment/{name}: it has one revision ({current}); there is nothing to roll back to")
    if wanted is not None and wanted not in others:
        raise ClusterError(
            f"--to-revision {wanted}: deployment/{name} runs {current} and can go back to "
            f"{', '.join(map(str, others)) or 'none'}; see "
            f"{kubectl.command('rollout', 'history', f'deployment/{name}')}"
        )
    return wanted if wanted is not None else others[-1]


def _by_name(workload: Workload) -> dict[str, str]:
    """Its images by the name that Lorry gives them: the last part of the repository."""
    return {image.rpartition(":")[0].rpartition("/")[2]: image for image in workload.images.values()}
