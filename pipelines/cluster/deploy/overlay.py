"""An overlay as kubectl would apply it: its Deployments, with their images and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.errors import RecipeError
from pipelines.cluster.deploy.pin import NO_MODEL, PINNED
from pipelines.cluster.kubectl import Kubectl

MODEL_ANNOTATION = "lorry/model-sha256"
MODEL_SERVER = "model-server"


@dataclass(frozen=True)
class Workload:
    """A Deployment: its containers' images by name, and its model's sha256 where it serves one."""

    name: str
    images: Mapping[str, str]
    model: str | None
    replaces_its_pod: bool

    @classmethod
    def of(cls, deployment: Mapping[str, Any]) -> Workload:
        """That of a Deployment's object, rendered or read from the cluster."""
        spec = deployment["spec"]
        template = spec["template"]
        pod = template["spec"]
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        return cls(
            deployment["metadata"]["name"],
            {one["name"]: one["image"] for one in containers},
            (template["metadata"].get("annotations") or {}).get(MODEL_ANNOTATION),
            spec.get("strategy", {}).get("type") == "Recreate",
        )

    @property
    def serves_a_model(self) -> bool:
        """Whether it is a model server."""
        return self.model is not None


@dataclass(frozen=True)
class Overlay:
    """A folder's rendered objects, all in one namespace."""

    folder: Path
    namespace: str
    objects: list[dict[str, Any]]

    @classmethod
    def render(cls, folder: Path, kubectl: Kubectl) -> Overlay:
        """What ``kubectl kustomize FOLDER`` gives.

        Raises:
            RecipeError: the folder is no overlay of Lorry's, or its model is not pinned.
            ClusterError: kubectl cannot render it.
        """
        if not (folder / PINNED / "kustomization.yaml").is_file():
            raise RecipeError(
                f"{folder / PINNED}: no such folder; copy it from manifests/overlays/local into your overlay"
            )
        rendered = YAML(typ="safe").load_all(kubectl.run("kustomize", str(folder)))
        # YAML's integers and strings as JSON has them, which is what the cluster answers with.
        objects = json.loads(json.dumps(list(rendered)))
        namespaces = {one["metadata"].get("namespace") for one in objects if one["kind"] == "Deployment"}
        if len(namespaces) != 1 or None in namespaces:
            raise RecipeError(f"{folder}: its Deployments are in no namespace, or in several; set one `namespace`")
        return cls(folder, str(namespaces.pop()), objects)

    @property
    def workloads(self) -> list[Workload]:
        """Its Deployments, model servers first: the page asks them."""
        found = [Workload.of(one) for one in self.objects if one["kind"] == "Deployment"]
        return sorted(found, key=lambda one: (not one.serves_a_model, one.name))

    @property
    def servers(self) -> list[Workload]:
        """Its model servers."""
        return [one for one in self.workloads if one.serves_a_model]

    def deployment(self, name: str) -> dict[str, Any]:
        """The object of a Deployment."""
        return next(one for one in self.objects if (one["kind"], one["metadata"]["name"]) == ("Deployment", name))

    def require_models(self) -> None:
        """Check that every model server has a model.

        Raises:
            RecipeError: one has none.
        """
        for server in self.servers:
            if server.model == NO_MODEL:
                raise RecipeError(
                    f"{self.folder}: {server.name} has no model; give --model SHA256, or --store to take its newest"
                )

    def service_of(self, workload: str) -> str | None:
        """The name of the Service that selects a Deployment's pods."""
        labels = self.deployment(workload)["spec"]["template"]["metadata"]["labels"]
        for one in self.objects:
            if one["kind"] == "Service" and one["spec"].get("selector", {}).items() <= labels.items():
                return str(one["metadata"]["name"])
        return None
