"""The model as an image that pods mount: the patch in ``pinned/`` that names it by its digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.errors import ModelError
from components.storage.container_registry import ContainerRegistry

VOLUME = "models"


def file_of(server: str) -> str:
    """The patch's name in ``pinned/``."""
    return f"{server}-image.yaml"


def image_of_model(repository: str, sha256: str) -> str:
    """``repository@digest`` of a model that was pushed there.

    Raises:
        ModelError: it was not.
        StoreError: the registry refuses or does not answer.
    """
    digest = ContainerRegistry(repository).manifest_digest(sha256)
    if digest is None:
        raise ModelError(
            f"{repository}: has no image of the model {sha256}; push it: "
            f"lorry publish --oci {repository} --model {sha256}"
        )
    return f"{repository}@{digest}"


def volume_patch(server: str, image: str) -> dict[str, Any]:
    """What a Deployment's volume with the model becomes; it stands beside the component model-image-volume."""
    volumes = [{"name": VOLUME, "image": {"reference": image}}]
    pod = {"template": {"spec": {"volumes": volumes}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": server}, "spec": pod}


def repository_of(patch: Mapping[str, Any]) -> str:
    """The repository that such a patch names."""
    reference = patch["spec"]["template"]["spec"]["volumes"][0]["image"]["reference"]
    return str(reference).partition("@")[0]


def volume_problem(deployment: Mapping[str, Any]) -> str | None:
    """What is wrong with a rendered Deployment's volume of the model, and the next move; None where nothing is."""
    name = deployment["metadata"]["name"]
    for volume in deployment["spec"]["template"]["spec"].get("volumes", []):
        if volume["name"] == VOLUME and "image" in volume:
            if "emptyDir" in volume:
                return f"{name} fetches its model; add ../../components/model-image-volume to the components"
            if "reference" not in volume["image"]:
                return f"{name} mounts its model as an image, and none is named; pin a model with --oci REPOSITORY"
    return None
