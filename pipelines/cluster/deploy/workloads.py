"""The Deployments of an overlay, with their images and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import RecipeError
from pipelines.cluster.deploy.pin import NO_MODEL
from pipelines.cluster.overlay import Manifest, Overlay, containers_of

MODEL_ANNOTATION = "lorry/model-sha256"


@dataclass(frozen=True)
class Workload:
    """A Deployment: its containers' images by name, and its model's sha256 where it serves one.

    ``recreates``: its old pod ends before the new one begins.
    """

    name: str
    images: Mapping[str, str]
    model: str | None
    recreates: bool

    @classmethod
    def of(cls, deployment: Mapping[str, Any]) -> Workload:
        """That of a Deployment's object, rendered or read from the cluster."""
        spec, template = deployment["spec"], deployment["spec"]["template"]
        return cls(
            deployment["metadata"]["name"],
            {one["name"]: one["image"] for one in containers_of(template["spec"])},
            (template["metadata"].get("annotations") or {}).get(MODEL_ANNOTATION),
            spec.get("strategy", {}).get("type") == "Recreate",
        )

    @property
    def serves_a_model(self) -> bool:
        """Whether it is a model server."""
        return self.model is not None


def workloads_of(overlay: Overlay) -> list[Workload]:
    """The Deployments of an overlay, model servers first: the page asks them."""
    found = map(Workload.of, overlay.of_kind("Deployment"))
    return sorted(found, key=lambda one: (not one.serves_a_model, one.name))


def servers_of(overlay: Overlay) -> list[Workload]:
    """The model servers of an overlay."""
    return [one for one in workloads_of(overlay) if one.serves_a_model]


def deployment_of(overlay: Overlay, name: str) -> Manifest:
    """The object of a Deployment."""
    return next(one for one in overlay.of_kind("Deployment") if one["metadata"]["name"] == name)


def service_of(overlay: Overlay, name: str) -> str:
    """The name of the Service that selects a Deployment's pods.

    Raises:
        RecipeError: there is none.
    """
    labels = deployment_of(overlay, name)["spec"]["template"]["metadata"]["labels"]
    for service in overlay.of_kind("Service"):
        if service["spec"].get("selector", {}).items() <= labels.items():
            return str(service["metadata"]["name"])
    raise RecipeError(f"{overlay.folder}: no Service selects the pods of {name}")


def require_models(overlay: Overlay) -> None:
    """Check that every model server has a model.

    Raises:
        RecipeError: one has none.
    """
    for server in servers_of(overlay):
        if server.model == NO_MODEL:
            raise RecipeError(
                f"{overlay.folder}: {server.name} has no model; give it one with --model SHA256, or with --store for "
                f"its newest (one of several servers: lorry pin {overlay.folder} --server {server.name} --model SHA256)"
            )
