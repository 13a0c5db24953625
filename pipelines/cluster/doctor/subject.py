"""What the doctor looks at: a cluster, the overlay to serve there, and where runs are placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pipelines.cluster.doctor.scheduling import Node, nodes_of
from pipelines.cluster.kubectl import Kubectl, MissingObjectError
from pipelines.cluster.overlay import Manifest, Overlay
from pipelines.config.pools import Placement, Pool
from pipelines.graph.images import ImageSettings

KUBEFLOW = "kubeflow"


class ClusterState:
    """Lists that several checks read, each asked for once."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    @cached_property
    def nodes(self) -> list[Manifest]:
        """Every node."""
        return self._list("nodes")

    @cached_property
    def pods(self) -> list[Manifest]:
        """Every pod that has not ended."""
        running = "--field-selector=status.phase!=Succeeded,status.phase!=Failed"
        return self._list("pods", "--all-namespaces", running)

    @cached_property
    def storage_classes(self) -> list[Manifest]:
        """Every storage class."""
        return self._list("storageclasses.storage.k8s.io")

    @cached_property
    def ready_nodes(self) -> list[Node]:
        """The nodes that take pods, with what the pods of now ask of them."""
        return nodes_of(self.nodes, self.pods)

    def get(self, namespace: str, kind: str, name: str) -> Manifest | None:
        """An object of a namespace, or None where it does not exist."""
        try:
            return dict(self.kubectl.in_namespace(namespace).get(kind, name))
        except MissingObjectError:
            return None

    def _list(self, *arguments: str) -> list[Manifest]:
        return list(self.kubectl.get(*arguments)["items"])


@dataclass(frozen=True)
class Outcome:
    """How a probe's pod ended: ``reason`` says in one line why it did not succeed.

    ``unplaced``: no node takes it. ``unpulled``: its image cannot be pulled. ``refused``: the cluster does not make it.
    """

    end: Literal["succeeded", "failed", "unplaced", "unpulled", "refused", "late"]
    log: str = ""
    reason: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the pod did what it was made for."""
        return self.end == "succeeded"

    @property
    def ran(self) -> bool:
        """Whether the pod did anything: else it proves nothing of what it was made for."""
        return self.end in ("succeeded", "failed")


@dataclass(frozen=True)
class Subject:
    """One visit. ``outcomes`` are those of the probes' pods by their names, none without ``--probe``."""

    kubectl: Kubectl
    state: ClusterState
    placement: Placement
    run_namespace: str
    settings: ImageSettings
    overlay: Overlay | None = None
    # The kustomization with the claims of runs: the overlay's folder pipelines/.
    pipelines: Overlay | None = None
    run_store: str | None = None
    claims: Sequence[str] = ()
    endpoint: str | None = None
    token: str | None = None
    profile: str | None = None
    probing: bool = False
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools that a run's steps are on: the chosen one, cpu and small."""
        names = dict.fromkeys((self.placement.pool, "cpu", "small"))
        return {name: self.placement.pools[name] for name in names}

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of runs and of serving."""
        serving = [self.overlay.namespace] if self.overlay else []
        return list(dict.fromkeys([self.run_namespace, *serving]))

    @property
    def serving_store(self) -> str | None:
        """The address of the models' store that the overlay gives its servers."""
        if self.overlay is None:
            return None
        stores: list[Any] = [one.get("data", {}).get("LORRY_STORE") for one in self.overlay.of_kind("ConfigMap")]
        return next((store for store in stores if store), None)

    def command(self, namespace: str | None, *arguments: str) -> str:
        """A kubectl command as a person types it."""
        return Kubectl(self.kubectl.context, namespace).command(*arguments)
