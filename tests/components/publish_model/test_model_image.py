"""A model as an image in a registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import StoreError
from components.publish_model.config import PublishConfig
from components.publish_model.model_image import Layer, push_model_image
from components.publish_model.publish import publish_image
from components.storage.container_registry import ContainerRegistry
from tests.components.publish_model.models import FILE
from tests.conftest import free_port
from tests.registries import PASSWORD, USER, registry


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def manifest(model) -> ModelManifest:
    return ModelManifest.model_validate_json((model / MANIFEST_NAME).read_bytes())


def get(image: str, kind: str, name: str) -> bytes:
    host, _, path = image.partition("@")[0].partition("/")
    accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    answer = httpx.get(f"http://{host}/v2/{path}/{kind}/{name}", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 10_241])
def test_a_layer_is_a_tar_file_of_one_file_that_everybody_may_read(tmp_path, length):
    (tmp_path / "model.gguf").write_bytes(bytes(range(256)) * 41)
    with (tmp_path / "model.gguf").open("r+b") as file:
        file.truncate(length)
    for content in (tmp_path / "model.gguf", (tmp_path / "model.gguf").read_bytes()):
        layer = Layer("model.gguf", content)
        with layer.open() as opened:
            written = b"".join(opened)
        assert len(written) == layer.size
        assert layer.digest() == f"sha256:{hashlib.sha256(written).hexdigest()}"
        with tarfile.open(fileobj=io.BytesIO(written)) as archive:
            (member,) = archive.getmembers()
            assert (member.name, member.size, member.mode, member.mtime, member.uid) == (
                "model.gguf",
                length,
                0o444,
                0,
                0,
            )
            assert archive.extractfile(member).read() == (tmp_path / "model.gguf").read_bytes()


def files_in(image: str, platform: dict[str, Any]) -> dict[str, bytes]:
    """What a node of one platform would mount."""
    index = json.loads(get(image, "manifests", image.partition("@")[2]))
    (chosen,) = [one for one in index["manifests"] if one["platform"] == platform]
    described = json.loads(get(image, "manifests", chosen["digest"]))
    config = json.loads(get(image, "blobs", described["config"]["digest"]))
    assert config["architecture"] == platform["architecture"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in described["layers"]]
    found = {}
    for layer in described["layers"]:
        with tarfile.open(fileobj=io.BytesIO(get(image, "blobs", layer["digest"]))) as archive:
            found.update({member.name: archive.extractfile(member).read() for member in archive})
    return found


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_node_mounts_the_models_file_and_its_manifest(host, model, manifest, architecture):
    image = push_model_image(f"{host}/models/tiny", model / FILE, manifest)
    assert image.startswith(f"{host}/models/tiny@sha256:")
    files = files_in(image, {"architecture": architecture, "os": "linux"})
    assert hashlib.sha256(files[FILE]).hexdigest() == manifest.sha256
    assert ModelManifest.model_validate_json(files[MANIFEST_NAME]) == manifest


def test_the_models_sha256_is_its_tag(host, model, manifest):
    image = push_model_image(f"{host}/models/tagged", model / FILE, manifest)
    assert ContainerRegistry(f"{host}/models/tagged").manifest_digest(manifest.sha256) == image.partition("@")[2]
    assert ContainerRegistry(f"{host}/models/tagged").manifest_digest("ab" * 32) is None


def test_a_second_push_uploads_nothing_and_other_figures_upload_no_weights(host, model, manifest, monkeypatch):
    uploads: list[str] = []

    def counted(name: str) -> None:
        original = getattr(ContainerRegistry, name)

        def upload(*arguments: Any, **more: Any) -> Any:
            uploads.append(f"{name} {arguments[2] if name == 'put_blob' else ''}".strip())
            return original(*arguments, **more)

        monkeypatch.setattr(ContainerRegistry, name, upload)

    counted("put_blob")
    counted("put_manifest")
    first = push_model_image(f"{host}/models/twice", model / FILE, manifest)
    assert len(uploads) == 7  # two layers; two platforms' configs and manifests; the index
    uploads.clear()
    assert push_model_image(f"{host}/models/twice", model / FILE, manifest) == first
    assert uploads == []
    measured = manifest.model_copy(update={"evaluation": {"loss": 9.0}})
    assert push_model_image(f"{host}/models/twice", model / FILE, measured) != first
    assert f"put_blob {Layer(FILE, model / FILE).size}" not in uploads


def test_a_recipe_names_the_repository_or_none(host, model, manifest):
    config = PublishConfig(store="/store", oci=f"{host}/models/recipe")
    assert publish_image(config, model_path=str(model), manifest=manifest).startswith(f"{host}/models/recipe@sha256:")
    assert publish_image(PublishConfig(store="/store"), model_path=str(model), manifest=manifest) is None


@pytest.mark.parametrize(
    "wrong", ["models", "registry.example", "https://registry.example/models", "host/Models", "host/a:tag"]
)
def test_what_is_no_repository_is_refused(wrong):
    with pytest.raises(ValidationError, match="oci"):
        PublishConfig(oci=wrong)
    with pytest.raises(StoreError, match="not a repository of a registry; write it as"):
        ContainerRegistry(wrong)


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("closed"), login=True) as address:
        yield f"{address}/models"


def test_user_and_password_come_from_the_environment(closed, model, manifest, monkeypatch):
    monkeypatch.setenv("LORRY_OCI_USER", USER)
    monkeypatch.setenv("LORRY_OCI_PASSWORD", PASSWORD)
    assert push_model_image(closed, model / FILE, manifest).startswith(f"{closed}@sha256:")


def test_a_registry_that_lets_nobody_push_says_which_variables_are_missing(closed, model, manifest, monkeypatch):
    monkeypatch.delenv("LORRY_OCI_USER", raising=False)
    with pytest.raises(StoreError) as caught:
        push_model_image(closed, model / FILE, manifest)
    assert str(caught.value) == (
        f"{closed}: {closed.partition('/')[0]} does not let requests without a user (LORRY_OCI_USER is not set) read; "
        "set LORRY_OCI_USER and LORRY_OCI_PASSWORD"
    )


def test_a_wrong_password_is_named_by_its_user_and_not_shown(closed, model, manifest, monkeypatch):
    monkeypatch.setenv("LORRY_OCI_USER", USER)
    monkeypatch.setenv("LORRY_OCI_PASSWORD", "not-the-password")
    with pytest.raises(StoreError, match=f"does not let the user {USER} read") as caught:
        push_model_image(closed, model / FILE, manifest)
    assert "not-the-password" not in str(caught.value)


def test_a_registry_that_does_not_answer_is_named():
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(StoreError, match=f"{nobody}/models: {nobody} does not answer .*refused.*; correct it"):
        ContainerRegistry(f"{nobody}/models")


def test_a_server_that_is_no_registry_is_named():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as page:
        threading.Thread(target=page.handle_request, daemon=True).start()
        host = f"127.0.0.1:{page.server_port}"
        with pytest.raises(StoreError, match=f"{host}/models: {host} is no container registry .HTTP 501."):
            ContainerRegistry(f"{host}/models")
