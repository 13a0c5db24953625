"""Kubernetes itself: its version, the kinds that it serves, and what this user may do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.kubectl import Kubectl, Right

GROUP = "kubernetes"
OLDEST, NEWEST = 31, 36
# What `kubectl apply` does with an object, and following a roll-out.
APPLYING = ("get", "list", "watch", "create", "patch")
# What shows why a pod does not start.
READING = ("get", "list", "watch")
# What `lorry deploy` needs beside applying: its Lease, the pod that pulls a new image, and asking through the Service.
DEPLOYING: dict[str, tuple[str, ...]] = {
    "leases.coordination.k8s.io": ("get", "create", "update", "delete"),
    "pods": (*READING, "create", "delete"),
    "pods/log": ("get",),
    "pods/portforward": ("create",),
    "replicasets.apps": READING,
}


def version(subject: Subject) -> Iterator[Row]:
    """The server's version."""
    found = json.loads(subject.kubectl.run("version", "--output=json"))
    server, client = found["serverVersion"], found["clientVersion"]
    minor = int(re.sub(r"\D", "", server["minor"]))
    text = f"Kubernetes {server['gitVersion']}, kubectl {client['gitVersion']}"
    if server["major"] == "1" and OLDEST <= minor <= NEWEST:
        yield Row(GROUP, "version", "ok", text)
        return
    yield Row(GROUP, "version", "warning", f"{text}; Lorry was tried with 1.{OLDEST} to 1.{NEWEST}")


def kinds(subject: Subject) -> Iterator[Row]:
    """Whether the cluster serves every kind of the overlay: some come with operators."""
    if subject.overlay is None:
        return
    served = set(subject.kubectl.run("api-versions").split())
    missing = {one["apiVersion"]: one["kind"] for one in subject.overlay.objects if one["apiVersion"] not in served}
    for api_version, kind in missing.items():
        group = api_version.partition("/")[0]
        yield Row(
            GROUP, f"kind {kind}", "missing",
            f"the cluster does not serve {api_version}: install what brings {group}, or take its component out of "
            f"{subject.overlay.folder}",
            subject.command(None, "api-resources", f"--api-group={group}"),
        )  # fmt: skip
    if not missing:
        yield Row(GROUP, "kinds", "ok", f"every kind of {subject.overlay.folder} is served")


def rights(subject: Subject) -> Iterator[Row]:
    """Whether this user may apply the overlay and read the pods of runs."""
    user = json.loads(subject.kubectl.run("auth", "whoami", "--output=json"))["status"]["userInfo"]["username"]
    if may(subject.kubectl, "*", "*", "--all-namespaces"):
        yield Row(GROUP, "rights", "ok", f"{user} may do everything")
        return
    wanted: dict[str, dict[str, tuple[str, ...]]] = {subject.run_namespace: {"pods": READING, "pods/log": ("get",)}}
    if subject.overlay is not None:
        resources: dict[str, tuple[str, ...]] = {
            _resource(one): APPLYING for one in subject.overlay.objects if one["kind"] != "Namespace"
        }
        wanted.setdefault(subject.overlay.namespace, {}).update({**DEPLOYING, **resources})
    for namespace, resources in wanted.items():
        yield _rights_in(subject.kubectl.in_namespace(namespace), user, namespace, resources)


def _rights_in(kubectl: Kubectl, user: str, namespace: str, wanted: dict[str, tuple[str, ...]]) -> Row:
    lacking = [
        Right(user, verb, resource, namespace)
        for resource, verbs in wanted.items()
        for verb in verbs
        if not may(kubectl, verb, resource)
    ]
    if not lacking:
        return Row(GROUP, f"rights in {namespace}", "ok", f"{user} may do what Lorry does there")
    verbs: dict[str, list[str]] = {}
    for right in lacking:
        verbs.setdefault(right.resource, []).append(right.verb)
    text = "; ".join(f"{', '.join(several)} {resource}" for resource, several in verbs.items())
    return Row(
        GROUP, f"rights in {namespace}", "missing",
        f"{user} has no right to: {text}; an administrator gives it", granting(lacking),
    )  # fmt: skip


def may(kubectl: Kubectl, verb: str, resource: str, *more: str) -> bool:
    """What ``kubectl auth can-i`` answers."""
    resource, _, part = resource.partition("/")
    subresource = [f"--subresource={part}"] if part else []
    return kubectl.run("auth", "can-i", verb, resource, *subresource, *more, succeeds_with=(0, 1)).strip() == "yes"


def granting(rights: Iterable[Right]) -> str:
    """The command with which an administrator gives rights that are all of one user and one scope.

    It names no context: an administrator has another than this user.
    """
    verbs: dict[str, list[str]] = {}
    several = list(rights)
    for one in several:
        verbs.setdefault(one.resource, []).append(one.verb)
    resources: dict[str, list[str]] = {}
    for resource, of_it in verbs.items():
        resources.setdefault(",".join(of_it), []).append(resource)
    user, namespace = several[0].user, several[0].namespace
    return " && ".join(_role(user, namespace, *one) for one in resources.items())


def _role(user: str, namespace: str | None, verbs: str, resources: Sequence[str]) -> str:
    kind, where = ("role", ["--namespace", namespace]) if namespace else ("clusterrole", [])
    name = re.sub(r"[^a-z0-9]+", "-", f"lorry-{user}-{verbs}-{resources[0]}".lower())[:200].strip("-")
    account = user.removeprefix("system:serviceaccount:")
    whom = f"--user={user}" if account == user else f"--serviceaccount={account}"
    make = ["kubectl", *where, "create"]
    apply = " --dry-run=client --output=yaml | kubectl apply -f -"
    return (
        shlex.join([*make, kind, name, f"--verb={verbs}", f"--resource={','.join(resources)}"]) + apply + " && "
        + shlex.join([*make, f"{kind}binding", name, f"--{kind}={name}", whom]) + apply
    )  # fmt: skip


def _resource(manifest: dict[str, str]) -> str:
    group, _, versioned = manifest["apiVersion"].partition("/")
    kind = manifest["kind"].lower()
    return f"{kind}.{group}" if versioned else kind
