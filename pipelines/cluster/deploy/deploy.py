"""An overlay rolled out in one go, and taken back if it does not serve its model well."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from components.errors import BusyError, ClusterError, LorryError
from pipelines.cluster.deploy.ask import Answer
from pipelines.cluster.deploy.image_probe import require_images
from pipelines.cluster.deploy.lease import held_lease
from pipelines.cluster.deploy.pin import PINNED, pin_overlay
from pipelines.cluster.deploy.rollout import UNDONE, good_revisions_of
from pipelines.cluster.deploy.snapshot import Report, RolloutFailedError, Snapshot, follow
from pipelines.cluster.deploy.verify import verify
from pipelines.cluster.deploy.workloads import require_models, servers_of, workloads_of
from pipelines.cluster.kubectl import ForbiddenError, Kubectl, MissingObjectError
from pipelines.cluster.overlay import Overlay, load_overlay


@dataclass(frozen=True)
class Wanted:
    """What to deploy: ``model`` None takes the store's newest, or without a store what is pinned."""

    folder: Path
    model: str | None = None
    store: str | None = None
    server: str = "model-server"


@dataclass(frozen=True)
class Deployed:
    """The namespace, and each model server's answer by its Deployment's name; None where it wants a key."""

    namespace: str
    answers: dict[str, Answer | None]


def deploy(wanted: Wanted, kubectl: Kubectl, seconds: float, report: Report) -> Deployed:
    """Pin, show the difference, apply, follow the roll-outs, and compare each server's answer with its manifest's.

    What fails after the apply is taken back: ``kubectl rollout undo``, and the folder ``pinned/`` as it was.

    Raises:
        RecipeError: the overlay cannot be pinned.
        BusyError: another deploy of this folder or this namespace is running.
        RolloutFailedError: it was taken back; the message says why.
        ClusterError: the cluster refuses or does not answer.
    """
    with _one_deploy_of(wanted.folder), _pinned_kept(wanted.folder) as before_pinning:
        for line in pin_overlay(wanted.folder, wanted.model, wanted.store, wanted.server):
            report(f"pinned: {line}")
        overlay = load_overlay(kubectl, wanted.folder)
        require_models(overlay)
        here = kubectl.in_namespace(overlay.namespace)
        _make_namespace(overlay, kubectl)
        with held_lease(here):
            _require_rights(here)
            before = Snapshot.read(here)
            changes = difference(overlay, kubectl)
            for line in changes:
                report(line)
            require_images(overlay, before, here, report)
            before_pinning.applied = True
            try:
                kubectl.run("apply", "--kustomize", str(wanted.folder))
                return _verified(overlay, here, seconds, report)
            except LorryError as error:
                report(f"failed: {error}")
                message = _taken_back(overlay, before, changes, here, seconds, report)
                raise RolloutFailedError(f"{error}\n{message}; {wanted.folder / PINNED} is as before") from error
            except KeyboardInterrupt:
                report(f"no longer followed; look with: lorry status {wanted.folder}. What was there before:")
                for name, revision in _revisions(overlay, before).items():
                    report(here.command("rollout", "undo", f"deployment/{name}", f"--to-revision={revision}"))
                raise


def difference(overlay: Overlay, kubectl: Kubectl) -> list[str]:
    """The changed lines of ``kubectl diff`` below the name of each object; of a new object the name alone.

    Raises:
        ClusterError: the cluster refuses the objects, or does not answer.
    """
    found = kubectl.run("diff", "--kustomize", str(overlay.folder), succeeds_with=(0, 1)).splitlines()
    lines, name, is_new = [], "", False
    for line in found:
        if line.startswith("+++ "):
            name = Path(line.split()[1]).name
        elif line.startswith("@@ "):
            is_new = line.startswith("@@ -0,0 ")
            if (heading := f"{'adds' if is_new else 'changes'} {name}") not in lines:
                lines.append(heading)
        elif line[:1] in ("+", "-") and line[:3] != "---" and "generation:" not in line and not is_new:
            lines.append(f"  {line}")
    return lines or ["nothing changes on the cluster"]


def _verified(overlay: Overlay, kubectl: Kubectl, seconds: float, report: Report) -> Deployed:
    now = follow(kubectl, [one.name for one in workloads_of(overlay)], seconds, report)
    answers = {one.name: verify(overlay, one, kubectl, report) for one in servers_of(overlay)}
    for name in answers:
        # A model that failed once, such as for a store that was away, is a good one now.
        if int(now.rollout(name).revision) not in good_revisions_of(name, now.replica_sets):
            kubectl.run("annotate", f"replicaset/{now.replica_set(name)}", f"{UNDONE}-")
    return Deployed(overlay.namespace, answers)


def _revisions(overlay: Overlay, before: Snapshot) -> dict[str, str]:
    """The revisions that the overlay's Deployments had, of those that were there."""
    found = {one.name: before.revision(one.name) for one in workloads_of(overlay)}
    return {name: revision for name, revision in found.items() if revision is not None}


def _taken_back(
    overlay: Overlay, before: Snapshot, changes: Sequence[str], kubectl: Kubectl, seconds: float, report: Report
) -> str:
    """Undo what a deploy has changed; give what became of it."""
    there = _revisions(overlay, before)
    new = [one.name for one in workloads_of(overlay) if one.name not in there]
    undone = undo(list(there), before, kubectl, seconds, report)
    others = [line.split()[1] for line in changes if line.startswith("changes ") and ".Deployment." not in line]
    parts = [f"{', '.join(undone)} as before"] if undone else []
    parts += [f"{', '.join(new)} stays as it is, for nothing was there before"] if new else []
    parts += [f"what else was applied stays: {', '.join(others)}"] if others else []
    return f"It was taken back: {'; '.join(parts)}" if undone else "; ".join(parts) or "No pod had changed"


def undo(names: Sequence[str], before: Snapshot, kubectl: Kubectl, seconds: float, report: Report) -> list[str]:
    """Bring back the Deployments whose pods changed, each to the revision that it had; give their names.

    The revision that goes is marked, so that no ``lorry rollback`` takes it for the good one of before.
    """
    now = Snapshot.read(kubectl)
    changed = [name for name in names if name in now.deployments and now.revision(name) != before.revision(name)]
    for name in changed:
        undone = now.replica_set(name)
        kubectl.run("rollout", "undo", f"deployment/{name}", f"--to-revision={before.revision(name)}")
        report(f"{name}: undone, to its revision {before.revision(name)}")
        with suppress(ClusterError):  # the right to change ReplicaSets is not everybody's
            if undone is not None:
                kubectl.run("annotate", f"replicaset/{undone}", f"{UNDONE}=true", "--overwrite")
    if changed:
        follow(kubectl, changed, seconds, report)
    return changed


def _require_rights(kubectl: Kubectl) -> None:
    """Check the rights for what comes after the apply, so that no good model is taken back for the lack of one."""
    for verb, resource in (("create", "pods/portforward"), ("patch", "deployments.apps"), ("get", "pods/log")):
        kind, _, subresource = resource.partition("/")
        asked = ["auth", "can-i", verb, kind, *([f"--subresource={subresource}"] if subresource else [])]
        if kubectl.run(*asked, succeeds_with=(0, 1)).strip() == "no":
            raise ClusterError(
                f"no right to {verb} {resource} in the namespace {kubectl.namespace}; ask for it, and look with: "
                f"{kubectl.command(*asked)}"
            )


def _make_namespace(overlay: Overlay, kubectl: Kubectl) -> None:
    """Make the overlay's namespace if it has one: without it there is no difference and no Lease."""
    try:
        kubectl.run("get", "namespace", overlay.namespace)
    except ForbiddenError:
        pass  # a user of this namespace alone: it is there
    except MissingObjectError:
        found = overlay.of_kind("Namespace")
        if not found:
            raise ClusterError(
                f"namespace {overlay.namespace!r}: the cluster has none; {kubectl.command('create', 'namespace')} "
                f"{overlay.namespace}"
            ) from None
        kubectl.run("apply", "--filename=-", given=json.dumps(found[0]))


@contextmanager
def _one_deploy_of(folder: Path) -> Iterator[None]:
    """Hold the folder: another process would write another ``pinned/`` meanwhile."""
    if not folder.is_dir():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{folder}: another deploy of this folder is running on this machine; wait for it"
            ) from None
        yield
    finally:
        os.close(descriptor)


@dataclass
class _Pinned:
    """``pinned/`` before it was written: its files by path; ``applied``: the cluster has the new one."""

    files: dict[Path, bytes]
    applied: bool = False


@contextmanager
def _pinned_kept(folder: Path) -> Iterator[_Pinned]:
    """Put ``pinned/`` back if what is inside fails, or is interrupted before the cluster has the new one."""
    pinned = folder / PINNED
    before = _Pinned(
        {path: path.read_bytes() for path in pinned.iterdir() if path.is_file()} if pinned.is_dir() else {}
    )
    try:
        yield before
    except BaseException as error:
        if not (before.applied and isinstance(error, KeyboardInterrupt)):
            for path in pinned.iterdir() if before.files else ():
                if path not in before.files:
                    path.unlink()
            for path, content in before.files.items():
                path.write_bytes(content)
        raise
