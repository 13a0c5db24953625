"""Volumes: the claims of runs and of the page, their storage classes, and whether the images' user can write."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cluster.doctor.row import NOT_PROBED, Row
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.overlay import Manifest, is_unpinned
from pipelines.cluster.pod_reasons import why_waiting
from pipelines.cluster.pvc_check import WRITABLE

GROUP = "storage"
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
JOB = "lorry-prepare-volumes"


def claims_of(subject: Subject) -> Iterator[tuple[str, str, Manifest | None]]:
    """Namespace, name and manifest of every claim that runs and the overlay name."""
    overlays = [one for one in (subject.pipelines, subject.overlay) if one is not None]
    manifests = {one["metadata"]["name"]: one for it in overlays for one in it.of_kind("PersistentVolumeClaim")}
    placement = subject.placement
    for name in dict.fromkeys((placement.checkpoints_claim, placement.hub_cache_claim, *subject.claims)):
        yield subject.run_namespace, name, manifests.get(name)
    if subject.overlay is not None:
        volumes = [one for _, pod in subject.overlay.pod_templates() for one in pod.get("volumes", [])]
        names = [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]
        for name in dict.fromkeys(names):
            yield subject.overlay.namespace, name, manifests.get(name)


def bound_claims(subject: Subject, namespace: str) -> list[str]:
    """The claims of a namespace that have a volume: mounting another one would choose where its volume is made."""
    names = [name for where, name, _ in claims_of(subject) if where == namespace]
    found = {name: subject.state.get(namespace, "persistentvolumeclaim", name) for name in names}
    return [name for name, claim in found.items() if claim and claim["status"]["phase"] == "Bound"]


def default_class(subject: Subject) -> Iterator[Row]:
    """The storage classes, and which of them a claim without a name gets."""
    classes = {one["metadata"]["name"]: one for one in subject.state.storage_classes}
    default = [name for name, one in classes.items() if _is_default(one)]
    if default:
        others = f"; others: {', '.join(name for name in classes if name not in default)}" if len(classes) > 1 else ""
        yield Row(GROUP, "default class", "ok", f"{', '.join(default)} ({classes[default[0]]['provisioner']}){others}")
        return
    wanting = [name for _, name, one in claims_of(subject) if one and not one["spec"].get("storageClassName")]
    if not classes:
        yield Row(
            GROUP, "default class", "missing", "the cluster has no storage class: install a provisioner",
            subject.command(None, "get", "storageclasses"),
        )  # fmt: skip
        return
    first = next(iter(classes))
    needed = f"{', '.join(wanting)} would wait for one" if wanting else "claims without a class would wait"
    yield Row(
        GROUP, "default class", "missing" if wanting or subject.overlay is None else "warning",
        f"none; {needed}; there are {', '.join(classes)}",
        subject.command(None, "annotate", "--overwrite", "storageclass", first, f"{IS_DEFAULT}=true"),
    )  # fmt: skip


def claims(subject: Subject) -> Iterator[Row]:
    """Each claim: whether it exists, is bound, and can be written."""
    classes = {one["metadata"]["name"]: one for one in subject.state.storage_classes}
    for namespace, name, manifest in claims_of(subject):
        found = subject.state.get(namespace, "persistentvolumeclaim", name)
        yield _claim(subject, namespace, name, manifest, found, classes)


def _claim(
    subject: Subject,
    namespace: str,
    name: str,
    manifest: Manifest | None,
    found: Manifest | None,
    classes: dict[str, Manifest],
) -> Row:
    check = f"claim {name} in {namespace}"
    wanted = (found or manifest or {"spec": {}})["spec"].get("storageClassName")
    if wanted and wanted not in classes and not (found and found["spec"].get("volumeName")):
        there = ", ".join(classes) or "none"
        return Row(
            GROUP, check, "missing",
            f"its storage class {wanted!r} does not exist, there are: {there}; delete the claim, name one of these in "
            "the overlay (docs/cluster.md, part 2), and apply it again",
            subject.command(namespace, "delete", "persistentvolumeclaim", name, "--ignore-not-found"),
        )  # fmt: skip
    if found is None:
        return _absent(subject, check, namespace, manifest)
    modes = found["spec"]["accessModes"]
    text = f"{found['status']['phase']}, {', '.join(modes)}, class {wanted or 'none'}"
    if not WRITABLE & set(modes):
        return Row(
            GROUP, check, "missing", f"{text}: it cannot be written; make it anew with ReadWriteOnce",
            subject.command(namespace, "delete", "persistentvolumeclaim", name),
        )  # fmt: skip
    if found["status"]["phase"] == "Pending" and _binds_at_once(classes.get(wanted or "")):
        return Row(
            GROUP, check, "warning", f"{text}: no volume yet",
            subject.command(namespace, "describe", "persistentvolumeclaim", name),
        )  # fmt: skip
    return Row(GROUP, check, "ok", text)


def _absent(subject: Subject, check: str, namespace: str, manifest: Manifest | None) -> Row:
    if subject.overlay is not None and manifest in subject.overlay.objects:
        return Row(GROUP, check, "ok", f"made when {subject.overlay.folder} is applied")
    if manifest is None or subject.pipelines is None:
        return Row(
            GROUP, check, "missing", "does not exist; an overlay's folder pipelines/ makes those of runs (--overlay)",
            subject.command(namespace, "get", "persistentvolumeclaims"),
        )  # fmt: skip
    return Row(GROUP, check, "missing", "does not exist", applying_pipelines(subject))


def applying_pipelines(subject: Subject) -> str:
    """The command that makes claims and runs the Job that prepares them."""
    assert subject.pipelines is not None
    delete = subject.command(subject.run_namespace, "delete", "job", JOB, "lorry-argo-retries", "--ignore-not-found")
    pin = f"lorry pin {subject.pipelines.folder.parent} && " if is_unpinned(subject.pipelines) else ""
    return f"{pin}{delete} && {subject.command(None, 'apply', '-k', str(subject.pipelines.folder))}"


def prepared(subject: Subject) -> Iterator[Row]:
    """The Job that proved that the images' user can write to the volumes of runs."""
    job = subject.state.get(subject.run_namespace, "job", JOB)
    if job is None:
        # It is removed a day after its end.
        yield Row(GROUP, "prepared volumes", "ok", f"no Job {JOB} in {subject.run_namespace} any more, or not yet")
        return
    conditions = job["status"].get("conditions") or []
    ended = {one["type"]: one for one in conditions if one["status"] == "True"}
    logs = subject.command(subject.run_namespace, "logs", f"job/{JOB}")
    if "Failed" in ended or "FailureTarget" in ended:
        yield Row(GROUP, "prepared volumes", "missing", f"the Job {JOB} failed: its log says which volume", logs)
    elif "Complete" in ended:
        yield Row(GROUP, "prepared volumes", "ok", f"the Job {JOB} ended well")
    else:
        yield _unfinished(subject)


def _unfinished(subject: Subject) -> Row:
    selector = f"job-name={JOB}"
    pods = subject.kubectl.in_namespace(subject.run_namespace).get("pods", f"--selector={selector}")["items"]
    reasons = [reason for pod in pods if (reason := why_waiting(pod))]
    if any("cannot be pulled" in reason for reason in reasons) and subject.pipelines is not None:
        return Row(GROUP, "prepared volumes", "missing", f"the Job {JOB}: {reasons[0]}", applying_pipelines(subject))
    return Row(
        GROUP, "prepared volumes", "warning", f"the Job {JOB} has not ended{f': {reasons[0]}' if reasons else ''}",
        subject.command(subject.run_namespace, "describe", "pods", f"--selector={selector}"),
    )  # fmt: skip


def _is_default(storage_class: Manifest) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(IS_DEFAULT) == "true"


def _binds_at_once(storage_class: Manifest | None) -> bool:
    return storage_class is not None and storage_class.get("volumeBindingMode") == "Immediate"


def access(subject: Subject) -> Iterator[Row]:
    """Whether the images' user can write to each claim that has a volume."""
    for namespace in subject.namespaces:
        outcome = subject.outcomes.get(f"claims in {namespace}")
        check = f"writing in {namespace}"
        if outcome is None:
            yield Row(GROUP, check, "ok" if subject.probing else "warning", _why_not(subject))
        elif outcome.succeeded:
            yield Row(GROUP, check, "ok", " ".join(outcome.log.split()))
        elif not outcome.ran:
            yield Row(GROUP, check, "warning", f"not probed: {outcome.reason}")
        else:
            yield Row(
                GROUP, check, "missing", outcome.reason,
                applying_pipelines(subject) if subject.pipelines and namespace == subject.run_namespace else "",
            )  # fmt: skip


def _why_not(subject: Subject) -> str:
    return "no claim there has a volume yet" if subject.probing else NOT_PROBED
