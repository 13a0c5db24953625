"""Secrets and their keys. Only names of keys are read, never a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components.storage.store import in_bucket
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import KUBEFLOW, Subject
from pipelines.cluster.kubectl import Kubectl, MissingObjectError
from pipelines.cluster.overlay import Overlay, containers_of

GROUP = "secrets"
KEYS = "{{range $key, $value := .data}}{{$key}} {{end}}"
KUBEFLOWS_KEYS = "mlpipeline-minio-artifact"
PULL_TYPE = "kubernetes.io/dockerconfigjson"
# A node takes no other Secret to log in to a registry; the second is docker's old form.
PULL_TYPES = (PULL_TYPE, "kubernetes.io/dockercfg")
# The bucket that comes with Kubeflow, and the names of the Service before it.
KUBEFLOWS_BUCKET = "mlpipeline"
STORE_SERVICES = ("seaweedfs", "minio-service")


@dataclass(frozen=True)
class Wanted:
    """A Secret that pods read: ``keys`` are those that they cannot do without, ``why`` what else it is for."""

    namespace: str
    name: str
    keys: tuple[str, ...] = ()
    optional: bool = False
    why: str = ""


def store(subject: Subject) -> Iterator[Row]:
    """The credentials of the store, for the steps of runs and for the servers."""
    stores = [(subject.run_namespace, subject.placement.store_secret, subject.run_store or subject.serving_store)]
    if subject.overlay is not None:
        stores += [(subject.overlay.namespace, name, subject.serving_store) for name in _env_secrets(subject.overlay)]
    for namespace, name, address in dict.fromkeys(stores):
        yield _store_secret(subject, namespace, name, address)


def _store_secret(subject: Subject, namespace: str, name: str, address: str | None) -> Row:
    check = f"{name} in {namespace}"
    if address is None or not address.startswith("s3://"):
        how = "a volume" if address and not in_bucket(address) else address or "no store is known (--overlay, --recipe)"
        return Row(GROUP, check, "ok", f"not needed: {how}")
    service = kubeflows_store(subject, address)
    wanted = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", *(["AWS_ENDPOINT_URL"] if service else [])]
    found = keys_of(subject.kubectl.in_namespace(namespace), name)
    lacking = [key for key in wanted if key not in (found or ())]
    if not lacking:
        return Row(GROUP, check, "ok", f"has {', '.join(found or ())}")
    says = "does not exist" if found is None else f"has no {', '.join(lacking)}"
    if service:
        return Row(
            GROUP, check, "missing", f"{says}; {address} is Kubeflow's own store", copying(subject, namespace, name)
        )
    written = [key for key in (*wanted, "AWS_REGION") if key not in (found or ())]
    return Row(
        GROUP, check, "warning" if found is None else "missing",
        f"{says}; for {address}, write {', '.join(f'{key}=…' for key in written)} into the file store.env (not needed "
        "where pods get the right to the bucket from the cloud)",
        putting(subject, namespace, name, "store.env", exists=found is not None),
    )  # fmt: skip


def putting(subject: Subject, namespace: str, name: str, file: str, *, exists: bool) -> str:
    """The command that makes a Secret of the lines of ``file``, or adds them to one that exists."""
    make = subject.command(namespace, "create", "secret", "generic", name, f"--from-env-file={file}")
    if not exists:
        return make
    # Not `apply`: of a Secret that was applied it takes away the keys that the file does not have.
    add = subject.command(namespace, "patch", "secret", name, "--patch-file=/dev/stdin")
    return f"{make} --dry-run=client --output=yaml | {add}"


def copying(subject: Subject, namespace: str, name: str) -> str:
    """The command that makes the Secret out of Kubeflow's own one; no value stands on a command line."""
    service = kubeflows_store(subject, f"s3://{KUBEFLOWS_BUCKET}") or STORE_SERVICES[0]
    template = (
        r'AWS_ACCESS_KEY_ID={{.data.accesskey | base64decode}}{{"\n"}}'
        r'AWS_SECRET_ACCESS_KEY={{.data.secretkey | base64decode}}{{"\n"}}'
        rf'AWS_ENDPOINT_URL=http://{service}.{KUBEFLOW}:9000{{{{"\n"}}}}AWS_REGION=us-east-1{{{{"\n"}}}}'
    )
    read = subject.command(KUBEFLOW, "get", "secret", KUBEFLOWS_KEYS, f"--output=go-template={template}")
    make = subject.command(
        namespace,
        "create",
        "secret",
        "generic",
        name,
        "--from-env-file=/dev/stdin",
        "--dry-run=client",
        "--output=yaml",
    )
    return f"{read} | {make} | {subject.command(namespace, 'apply', '-f', '-')}"


def kubeflows_store(subject: Subject, address: str) -> str | None:
    """The Service of Kubeflow's own store, where the address is in its bucket."""
    if urlsplit(address).netloc != KUBEFLOWS_BUCKET:
        return None
    services = (name for name in STORE_SERVICES if subject.state.get(KUBEFLOW, "service", name))
    return next(services, None)


def others(subject: Subject) -> Iterator[Row]:
    """Every other Secret that steps or the overlay's pods name."""
    placement = subject.placement
    wanted = [
        Wanted(subject.run_namespace, placement.hub_secret, ("HF_TOKEN",), True, "hub models that ask for a token")
    ]
    pulling = [(subject.run_namespace, placement.image_pull_secret)] if placement.image_pull_secret else []
    if subject.overlay is not None:
        wanted += _of_overlay(subject.overlay)
        pulling += [(subject.overlay.namespace, name) for name in _pull_secrets(subject.overlay)]
    for one in wanted:
        yield _other(subject, one)
    for namespace, name in dict.fromkeys(pulling):
        yield _pull_secret(subject, namespace, name)


def _other(subject: Subject, wanted: Wanted) -> Row:
    check = f"{wanted.name} in {wanted.namespace}"
    found = keys_of(subject.kubectl.in_namespace(wanted.namespace), wanted.name)
    lacking = [key for key in wanted.keys if key not in (found or ())]
    if found is not None and not lacking:
        return Row(GROUP, check, "ok", f"has {', '.join(found)}")
    says = "does not exist" if found is None else f"has no {', '.join(lacking)}"
    if wanted.optional:
        return Row(GROUP, check, "ok", f"{says}; needed for {wanted.why} alone")
    file = f"{wanted.name}.env"
    return Row(
        GROUP, check, "missing",
        f"{says}; write {', '.join(f'{key}=…' for key in lacking)} into the file {file}",
        putting(subject, wanted.namespace, wanted.name, file, exists=found is not None),
    )  # fmt: skip


def _pull_secret(subject: Subject, namespace: str, name: str) -> Row:
    """A Secret with the login of a registry: its type counts, which cannot be changed afterwards."""
    check = f"{name} in {namespace}"
    try:
        kind = subject.kubectl.in_namespace(namespace).run("get", "secret", name, "--output=go-template={{.type}}")
    except MissingObjectError:
        kind = None
    if kind in PULL_TYPES:
        return Row(GROUP, check, "ok", f"is of the type {kind}")
    file = f"{name}.json"
    says = "does not exist" if kind is None else f"is of the type {kind}, with which no node logs in to a registry"
    remove = "" if kind is None else f"{subject.command(namespace, 'delete', 'secret', name)} && "
    make = ("create", "secret", "generic", name, f"--type={PULL_TYPE}", f"--from-file=.dockerconfigjson={file}")
    return Row(
        GROUP, check, "missing",
        f"{says}; write the registry's login into the file {file}, in the form of ~/.docker/config.json",
        remove + subject.command(namespace, *make),
    )  # fmt: skip


def keys_of(kubectl: Kubectl, name: str) -> list[str] | None:
    """The names of a Secret's keys; None where there is no such Secret."""
    try:
        return kubectl.run("get", "secret", name, f"--output=go-template={KEYS}").split()
    except MissingObjectError:
        return None


def _env_secrets(overlay: Overlay) -> list[str]:
    """The Secrets whose every key becomes a variable: those of the store."""
    sources = [one for _, pod in overlay.pod_templates() for container in containers_of(pod)
               for one in container.get("envFrom", [])]  # fmt: skip
    return list(dict.fromkeys(one["secretRef"]["name"] for one in sources if "secretRef" in one))


def _of_overlay(overlay: Overlay) -> list[Wanted]:
    """Secrets of which pods read single keys, and volumes of Secrets."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _, pod in overlay.pod_templates():
        for variable in (one for container in containers_of(pod) for one in container.get("env", [])):
            if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                found.setdefault(key["name"], []).append(key)
        for volume in pod.get("volumes", []):
            if secret := volume.get("secret"):
                found.setdefault(secret["secretName"], []).append({"optional": secret.get("optional", False)})
    return [_wanted(overlay.namespace, name, uses) for name, uses in found.items()]


def _pull_secrets(overlay: Overlay) -> list[str]:
    return [one["name"] for _, pod in overlay.pod_templates() for one in pod.get("imagePullSecrets", [])]


def _wanted(namespace: str, name: str, uses: list[dict[str, Any]]) -> Wanted:
    needed = tuple(dict.fromkeys(one["key"] for one in uses if "key" in one and not one.get("optional")))
    every = ", ".join(dict.fromkeys(one["key"] for one in uses if "key" in one))
    return Wanted(namespace, name, needed, all(one.get("optional") for one in uses), every or "its files")
