"""Namespaces: that they exist, and what Pod Security they enforce."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import KUBEFLOW, Subject

GROUP = "namespaces"
LEVEL = "pod-security.kubernetes.io/enforce"


def namespaces(subject: Subject) -> Iterator[Row]:
    """Both namespaces, with their level of Pod Security."""
    for namespace in subject.namespaces:
        found = subject.state.get("", "namespace", namespace)
        if found is None:
            yield _absent(subject, namespace)
            continue
        level = (found["metadata"].get("labels") or {}).get(LEVEL, "privileged")
        yield _level(subject, namespace, level)


def _absent(subject: Subject, namespace: str) -> Row:
    manifest = subject.overlay.folder / "namespace.yaml" if subject.overlay else None
    make = ("create", "namespace", namespace)
    if manifest is not None and manifest.is_file() and subject.overlay and namespace == subject.overlay.namespace:
        rendered = subject.overlay.of_kind("Namespace")
        # A kustomization may rename it.
        if rendered and manifest.read_text().count(f"name: {namespace}\n"):
            make = ("apply", "-f", str(manifest))
    where = "Kubeflow Pipelines is installed there" if namespace == KUBEFLOW else "it does not exist"
    return Row(
        GROUP, namespace, "missing", f"does not exist; {where}" if namespace == KUBEFLOW else where,
        subject.command(None, *make),
    )  # fmt: skip


def _level(subject: Subject, namespace: str, level: str) -> Row:
    text = f"Pod Security: enforces {level}"
    is_own = subject.overlay is not None and namespace == subject.overlay.namespace and namespace != KUBEFLOW
    if level == "privileged" and is_own:
        return Row(
            GROUP, namespace, "warning",
            f"{text}: pods of any kind may run beside Lorry's, which pass restricted",
            subject.command(None, "label", "--overwrite", "namespace", namespace, f"{LEVEL}=restricted"),
        )  # fmt: skip
    return Row(GROUP, namespace, "ok", f"{text}; Lorry's pods pass restricted")
