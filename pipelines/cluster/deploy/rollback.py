"""The last roll-out of a Deployment taken back, on the cluster and in its overlay."""

from __future__ import annotations

from pathlib import Path

from components.errors import ClusterError, LorryError
from pipelines.cluster.deploy.deploy import undo
from pipelines.cluster.deploy.lease import held_lease
from pipelines.cluster.deploy.pin import PINNED, write_pinned
from pipelines.cluster.deploy.rollout import good_revisions_of, revisions_of
from pipelines.cluster.deploy.snapshot import Report, RolloutFailedError, Snapshot, follow
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
        RolloutFailedError: what was there before does not serve well either; what runs now was brought back.
        ClusterError: there is nothing to go back to.
    """
    overlay = load_overlay(kubectl, folder)
    here = kubectl.in_namespace(overlay.namespace)
    with held_lease(here):
        before = Snapshot.read(here)
        revision = _target(before, name, to_revision, here)
        report(here.command("rollout", "undo", f"deployment/{name}", f"--to-revision={revision}"))
        here.run("rollout", "undo", f"deployment/{name}", f"--to-revision={revision}")
        try:
            running = follow(here, [name], seconds, report).workload(name)
            assert running is not None
            if running.serves_a_model:
                report(f"{name}: the model {running.model}")
                verify(overlay, running, here, report)
        except LorryError as error:
            report(f"failed: {error}")
            undo([name], before, here, seconds, report)
            raise RolloutFailedError(f"{error}\nWhat ran before was brought back; try another --to-revision") from error
        write_pinned(folder / PINNED, _by_name(running), name, running.model)
        report(f"written into {folder / PINNED}: {', '.join(sorted(set(running.images.values())))}")
    return running


def _target(snapshot: Snapshot, name: str, wanted: int | None, kubectl: Kubectl) -> int:
    if name not in snapshot.deployments:
        known = ", ".join(sorted(snapshot.deployments)) or "none of Lorry's"
        raise ClusterError(f"namespace {kubectl.namespace}: no Deployment {name!r}; it has {known}")
    current = int(snapshot.rollout(name).revision)
    others = sorted(set(revisions_of(name, snapshot.replica_sets)) - {current})
    good = sorted(set(good_revisions_of(name, snapshot.replica_sets)) - {current})
    if wanted is None and not good:
        undone = f", and of the others ({', '.join(map(str, others))}) each was undone" if others else ""
        raise ClusterError(
            f"deployment/{name}: it runs its revision {current}{undone}; there is nothing to roll back to"
        )
    if wanted is not None and wanted not in others:
        raise ClusterError(
            f"--to-revision {wanted}: deployment/{name} runs {current} and can go back to "
            f"{', '.join(map(str, others)) or 'none'}; see "
            f"{kubectl.command('rollout', 'history', f'deployment/{name}')}"
        )
    return wanted if wanted is not None else good[-1]


def _by_name(workload: Workload) -> dict[str, str]:
    """Its images by the name that Lorry gives them: the last part of the repository, without tag and digest."""
    return {image.partition("@")[0].rpartition("/")[2].partition(":")[0]: image for image in workload.images.values()}
