"""What is in an image: the CycloneDX document that a release writes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.errors import LorryError
from images import sbom
from images.sbom import debian_packages, write_sbom
from pipelines.graph.images import ImageSettings, images, reference

SETTINGS = ImageSettings(
    registry="registry.example/lorry", base_image="debian@sha256:0", platform="linux/amd64", torch="cpu"
)
DEBIAN = ["libc6 2.36-9+deb12u10 amd64", "perl-base 5.36.0-7+deb12u2 amd64"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sbom, "FOLDER", tmp_path / "sbom")
    return tmp_path


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """That of each image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sbom, "FOLDER", tmp_path_factory.mktemp("sbom"))
        return {name: json.loads(write_sbom(name, SETTINGS, DEBIAN).read_text()) for name in images()}


def versions(found: dict[str, Any]) -> dict[str, str]:
    return {component["name"]: component["version"] for component in found["components"]}


@pytest.mark.parametrize("name", images())
def test_a_document_is_valid_names_its_image_and_is_the_same_each_time(name):
    path = write_sbom(name, SETTINGS, DEBIAN)
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert write_sbom(name, SETTINGS, reversed(DEBIAN)).read_text() == text
    described = json.loads(text)["metadata"]["component"]
    assert (f"{described['name']}:{described['version']}", described["type"]) == (
        reference(name, SETTINGS),
        "container",
    )
    assert path.name == f"{name}-{described['version']}.cdx.json"


def test_a_package_has_its_version_and_the_hashes_of_the_lock(documents):
    (fastapi,) = [one for one in documents["model-server"]["components"] if one["name"] == "fastapi"]
    lock = (Path(sbom.__file__).parent / "model-server" / "requirements.lock").read_text()
    assert f"fastapi=={fastapi['version']} " in lock
    assert fastapi["purl"] == f"pkg:pypi/fastapi@{fastapi['version']}"
    assert fastapi["hashes"]
    assert all(f"--hash=sha256:{one['content']}" in lock for one in fastapi["hashes"])


def test_packages_of_the_base_are_debians(documents):
    found = {one["name"]: one["purl"] for one in documents["chat"]["components"]}
    assert found["libc6"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64"
    assert "perl-base" in found


def test_llama_cpp_is_in_the_images_that_hold_it_and_its_build_tools_are_in_none(documents):
    holding = {name for name, found in documents.items() if "llama-cpp-python" in versions(found)}
    assert holding == {"llama", "export", "model-server"}
    assert all("scikit-build-core" not in versions(found) for found in documents.values())


def test_torch_is_the_one_that_the_image_carries(documents):
    assert versions(documents["train"])["torch"].endswith("+cpu")
    with_cuda = write_sbom("train", SETTINGS.model_copy(update={"torch": "cuda"}), DEBIAN)
    assert "+" not in versions(json.loads(with_cuda.read_text()))["torch"]


def test_a_package_for_another_system_is_not_in_the_image(documents):
    lock = (Path(sbom.__file__).parent / "chat" / "requirements.lock").read_text()
    assert "colorama==" in lock  # click wants it on Windows
    assert "colorama" not in versions(documents["chat"])


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_debian_packages_are_asked_of_the_image_itself(folder, monkeypatch):
    program(folder, "docker", f'echo "$@" > {folder}/asked; echo "{DEBIAN[0]}"', monkeypatch)
    assert debian_packages("docker", "registry.example/lorry/chat:1") == [DEBIAN[0]]
    asked = (folder / "asked").read_text()
    image = "registry.example/lorry/chat:1"
    assert asked.startswith(f"run --rm --network=none --entrypoint dpkg-query {image} --show --showformat ${{Package}}")


def test_with_buildah_the_container_is_removed(folder, monkeypatch):
    says = f'echo "$1 $2" >> {folder}/asked; [ $1 = from ] && echo made || echo "{DEBIAN[0]}"'
    program(folder, "buildah", says, monkeypatch)
    assert debian_packages("buildah", "chat:1") == [DEBIAN[0]]
    assert (folder / "asked").read_text().splitlines() == ["from chat:1", "run made", "rm made"]


def test_an_image_that_is_not_debian_like_is_named(folder, monkeypatch):
    program(folder, "docker", 'echo "exec: dpkg-query: not found" >&2; exit 127', monkeypatch)
    with pytest.raises(LorryError, match=r"chat:1: its Debian packages cannot be listed .exec: dpkg-query: not found"):
        debian_packages("docker", "chat:1")


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no Debian here")
def test_a_line_of_dpkg_query_is_read():
    done = subprocess.run(sbom._DEBIAN, capture_output=True, text=True, check=True)
    found = json.loads(write_sbom("chat", SETTINGS, done.stdout.splitlines()).read_text())
    assert "dpkg" in versions(found)
