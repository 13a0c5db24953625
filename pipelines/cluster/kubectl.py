"""Kubernetes through the user's own ``kubectl``: what Lorry does there, a person can type."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.errors import ClusterError

SECONDS_TO_ANSWER = 15
_FORBIDDEN = re.compile(
    r'forbidden: User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)


@dataclass(frozen=True)
class Right:
    """What a user may do: ``resource`` as in ``deployments.apps``; ``namespace`` None is the whole cluster."""

    user: str
    verb: str
    resource: str
    namespace: str | None

    def __str__(self) -> str:
        scope = f"in the namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {self.resource} {scope}"


# What kubectl's library logs before kubectl says it again in its own words.
_LOG_LINE = re.compile(r"^[EWI]\d{4} \d\d:\d\d:\d\d")


def _environment() -> dict[str, str]:
    # `kubectl diff` is read by programs here, whatever a person likes to see.
    return {key: value for key, value in os.environ.items() if key != "KUBECTL_EXTERNAL_DIFF"}


class ForbiddenError(ClusterError):
    """The user has no right to do it; the message names the verb and the resource."""

    def __init__(self, message: str, right: Right) -> None:
        super().__init__(message)
        self.right = right


class MissingObjectError(ClusterError):
    """The cluster has no such object."""


class MissingKindError(ClusterError):
    """The cluster has no objects of this kind."""


class Kubectl:
    """kubectl with one context and one namespace, both those of the kubeconfig where they are None."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self.context = context
        self.namespace = namespace

    def in_namespace(self, namespace: str) -> Kubectl:
        """The same cluster, another namespace."""
        return Kubectl(self.context, namespace)

    def words(self, *arguments: str) -> list[str]:
        """The words of a command."""
        where = [*(("--context", self.context) if self.context else ())]
        where += [*(("--namespace", self.namespace) if self.namespace else ())]
        return ["kubectl", *where, *arguments]

    def command(self, *arguments: str) -> str:
        """A command as a person types it."""
        return shlex.join(self.words(*arguments))

    def run(self, *arguments: str, given: str | None = None, succeeds_with: Sequence[int] = (0,)) -> str:
        """What ``kubectl ARGUMENTS`` prints; ``given`` is its standard input.

        Raises:
            ForbiddenError: the user may not do it.
            MissingObjectError: it does not exist.
            ClusterError: kubectl is missing, the cluster does not answer or it refuses.
        """
        words = self.words(f"--request-timeout={SECONDS_TO_ANSWER}s", *arguments)
        try:
            done = subprocess.run(words, input=given, env=_environment(), capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise ClusterError(
                "kubectl: not found on this machine; install it (https://kubernetes.io/docs/tasks/tools)"
            ) from None
        if done.returncode not in succeeds_with:
            raise self.error(self.command(*arguments), done.stderr or done.stdout)
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """``kubectl get ARGUMENTS`` as JSON: an object, or a list of them under ``items``.

        Raises:
            ClusterError: as ``run``.
        """
        return json.loads(self.run("get", *arguments, "--output=json"))

    def error(self, command: str, stderr: str) -> ClusterError:
        """The error for what a failed command printed."""
        printed = " ".join(line.strip() for line in stderr.splitlines() if not _LOG_LINE.match(line))
        where = f"context {self.context!r}" if self.context else "the kubeconfig's current context"
        if refused := _FORBIDDEN.search(printed):
            may = " --all-namespaces" if not refused["namespace"] else f" --namespace {refused['namespace']}"
            resource = f"{refused['resource']}.{refused['group']}".rstrip(".")
            right = Right(refused["user"], refused["verb"], resource, refused["namespace"])
            return ForbiddenError(
                f"{right.user} has no right to {right}; ask for it, and look with: "
                f"kubectl auth can-i {right.verb} {resource}{may}",
                right,
            )
        if "(NotFound)" in printed:
            return MissingObjectError(f"{command}: {printed.partition('(NotFound): ')[2]}")
        if "doesn't have a resource type" in printed:
            return MissingKindError(f"{command}: {printed[-500:]}")
        if "(Unauthorized)" in printed or "must be logged in" in printed:
            return ClusterError(f"{where}: the cluster does not accept its login; log in again ({printed[-200:]})")
        if re.search(
            r"Unable to connect|connection to the server|connection refused|i/o timeout|deadline exc", printed
        ):
            return ClusterError(
                f"{where}: the cluster does not answer ({printed[-300:]}); correct it, see kubectl config get-contexts"
            )
        if re.search(
            r"context .* does not exist|context was not found|no configuration has been provided|invalid configuration",
            printed,
        ):
            return ClusterError(f"{where}: {printed[-300:]}; see kubectl config get-contexts")
        return ClusterError(f"{command}: {printed[-500:]}")
