"""`lorry publish --oci` and `lorry pin --oci`: a model that pods mount as an image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import ModelError, RecipeError
from components.publish_model.config import PublishConfig
from components.publish_model.model_image import push_model_image
from components.publish_model.publish import publish
from pipelines.cluster.deploy.pin import pin_overlay
from tests.components.publish_model.models import FILE, write_model
from tests.conftest import ROOT, run_lorry
from tests.manifests.rendering import render
from tests.registries import registry

COMPONENT = "../../components/model-image-volume"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield f"{host}/models"


@pytest.fixture
def store(tmp_path) -> tuple[str, str]:
    """A store's folder, and the sha256 of its one model."""
    address = str(tmp_path / "store")
    model = write_model(tmp_path / "model")
    return address, publish(PublishConfig(store=address), model_path=str(model), recipe="tiny").sha256


def overlay_with(folder: Path, lines: str = f"  - pinned\n  - {COMPONENT}\n") -> Path:
    """A copy of the local overlay; ``lines`` are the last of its components."""
    shutil.copytree(ROOT / "manifests", folder)
    overlay = folder / "overlays" / "local"
    path = overlay / "kustomization.yaml"
    text = path.read_text()
    assert "  - pinned\n" in text
    path.write_text(text.replace("  - pinned\n", lines))
    return overlay


def server_of(overlay: Path, name: str = "model-server") -> dict[str, Any]:
    (found,) = [one for one in render(overlay) if one["kind"] == "Deployment" and one["metadata"]["name"] == name]
    return found


def volume_of(overlay: Path, name: str = "model-server") -> dict[str, Any]:
    volumes = server_of(overlay, name)["spec"]["template"]["spec"]["volumes"]
    (found,) = [volume for volume in volumes if volume["name"] == "models"]
    return found


def test_a_model_of_a_store_is_pushed_pinned_and_mounted_by_its_digest(repository, store, tmp_path):
    address, sha256 = store
    pushed = run_lorry("publish", "--oci", repository, "--store", address, "--workdir", tmp_path / "work")
    assert pushed.returncode == 0, pushed.stderr
    image = pushed.stdout.partition("pushed: ")[2].split()[0]
    assert image.startswith(f"{repository}@sha256:")
    assert f"serve it: lorry pin OVERLAY --oci {repository} --model {sha256}" in pushed.stdout
    overlay = overlay_with(tmp_path / "manifests")
    pinned = run_lorry("pin", overlay, "--oci", repository, "--model", sha256)
    assert pinned.returncode == 0, pinned.stderr
    assert f"model-server: the model {sha256} (not checked: no --store), as the image {image}" in pinned.stdout
    assert volume_of(overlay) == {"name": "models", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}


@pytest.mark.parametrize("lines", [f"  - pinned\n  - {COMPONENT}\n", f"  - {COMPONENT}\n  - pinned\n"])
def test_component_and_pinned_may_stand_in_any_order_and_no_container_fetches(repository, tmp_path, lines):
    sha256 = pushed_model(repository, tmp_path / "model")
    overlay = overlay_with(tmp_path / "manifests", lines)
    pin_overlay(overlay, sha256, None, oci=repository)
    assert set(volume_of(overlay)) == {"name", "image"}
    deployment = server_of(overlay)
    assert not deployment["spec"]["template"]["spec"].get("initContainers")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["lorry/model-sha256"] == sha256
    # No container of ours fetched the file, so the server itself compares it with what is pinned.
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in server["env"]}
    assert variables == {
        "LORRY_MODEL": "/models",
        "LORRY_MODEL_SHA256": "metadata.annotations['lorry/model-sha256']",
    }
    kubernetes_validate.validate(deployment, "1.33", strict=True)


def pushed_model(repository: str, folder: Path, content: bytes = b"GGUF") -> str:
    model = write_model(folder, content)
    manifest = ModelManifest.model_validate_json((model / MANIFEST_NAME).read_bytes())
    push_model_image(repository, model / FILE, manifest)
    return manifest.sha256


def test_the_next_model_comes_from_the_same_repository(repository, tmp_path):
    first, second = (pushed_model(repository, tmp_path / name, name.encode()) for name in ("one", "two"))
    overlay = overlay_with(tmp_path / "manifests")
    pin_overlay(overlay, first, None, oci=repository)
    before = volume_of(overlay)
    pin_overlay(overlay, second, None)
    assert volume_of(overlay)["image"]["reference"].startswith(f"{repository}@sha256:")
    assert volume_of(overlay) != before


def test_a_model_that_was_not_pushed_is_refused_with_the_command_that_pushes_it(repository, tmp_path):
    overlay = overlay_with(tmp_path / "manifests")
    with pytest.raises(ModelError, match=f"push it: lorry publish --oci {repository} --model {'ab' * 32}"):
        pin_overlay(overlay, "ab" * 32, None, oci=repository)
    assert not (overlay / "pinned" / "model-server-image.yaml").exists()


def test_an_overlay_that_fetches_its_model_is_not_pinned_to_an_image(repository, tmp_path):
    sha256 = pushed_model(repository, tmp_path / "model")
    overlay = overlay_with(tmp_path / "manifests", "  - pinned\n")
    before = (overlay / "pinned" / "kustomization.yaml").read_text()
    with pytest.raises(RecipeError, match=f"model-server fetches its model; add {COMPONENT} to the components"):
        pin_overlay(overlay, sha256, None, oci=repository)
    assert (overlay / "pinned" / "kustomization.yaml").read_text() == before
    assert not (overlay / "pinned" / "model-server-image.yaml").exists()


def test_a_volume_without_an_image_is_named(tmp_path):
    overlay = overlay_with(tmp_path / "manifests")
    with pytest.raises(RecipeError, match="mounts its model as an image, and none is named; pin a model with --oci"):
        pin_overlay(overlay, "ab" * 32, None)
