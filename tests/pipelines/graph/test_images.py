"""The images: what is in each, and how it is named. `make image-check` runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import RecipeError
from pipelines.graph import images
from pipelines.graph.images import ImageSettings, build_arguments, load_settings, tag, write_context
from tests.conftest import ROOT

SETTINGS = ImageSettings(
    registry="registry.example/lorry", base_image="debian@sha256:0", platform="linux/amd64", torch="cpu"
)
RUNNING = [name for name in images.images() if name != "llama"]
BATCH = ("data", "train", "export")


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A copy of the tree whose files may be changed."""
    for folder in ("components", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.setattr("pipelines.graph.fingerprint.ROOT", tmp_path)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "FOLDER", tmp_path / "images")
    return tmp_path


def changed_by(path: Path) -> set[str]:
    """The images whose tag changes with a file."""
    before = {name: tag(name, SETTINGS) for name in images.images()}
    with path.open("a") as file:
        file.write("\n# changed\n")
    return {name for name in images.images() if tag(name, SETTINGS) != before[name]}


def test_a_change_of_the_page_names_no_image_anew_but_its_own(tree):
    assert changed_by(tree / "components" / "chat" / "ui" / "page.py") == {"chat"}


def test_a_change_of_what_steps_share_names_each_of_their_images_anew(tree):
    assert changed_by(tree / "components" / "modeling" / "chat_template.py") == {
        "data",
        "train",
        "export",
        "model-server",
    }


def test_a_tag_depends_on_content_alone_not_on_place_time_or_mode(tree, tmp_path_factory, monkeypatch):
    before = {name: tag(name, SETTINGS) for name in images.images()}
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "tree"
    shutil.copytree(tree, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    monkeypatch.setattr("pipelines.graph.fingerprint.ROOT", elsewhere)
    monkeypatch.setattr(images, "ROOT", elsewhere)
    monkeypatch.setattr(images, "FOLDER", elsewhere / "images")
    assert {name: tag(name, SETTINGS) for name in images.images()} == before


def test_another_llama_cpp_is_another_image_for_those_that_hold_it(tree):
    assert changed_by(tree / "images" / "llama" / "Dockerfile") == {"llama", "export", "model-server"}


def test_another_base_is_another_image_and_another_torch_only_for_training():
    def tags(**changes: str) -> dict[str, str]:
        return {name: tag(name, SETTINGS.model_copy(update=changes)) for name in images.images()}

    before = tags()
    assert all(before[name] != value for name, value in tags(base_image="debian@sha256:1").items())
    assert {name for name, value in tags(torch="cuda").items() if value != before[name]} == {"train"}
    assert tags(registry="elsewhere/lorry") == {
        **before, "export": tags(registry="elsewhere/lorry")["export"],
        "model-server": tags(registry="elsewhere/lorry")["model-server"],
    }  # fmt: skip


@pytest.mark.parametrize("name", RUNNING)
def test_an_image_holds_all_that_its_parts_import(name, tmp_path):
    write_context(name, tmp_path, SETTINGS)
    imports = [f"components.{part}" for part in images.images()[name].parts]
    modules = [
        ".".join(path.relative_to(tmp_path / "app").with_suffix("").parts)
        for path in (tmp_path / "app" / "components").rglob("*.py")
        if path.name not in ("__main__.py", "__init__.py", "upstream.py")
    ]
    assert len(modules) > len(imports)
    # -I: nothing but the context and the installed libraries, not this checkout.
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'app')!r})\n" + "".join(
        f"import {module}\n" for module in modules
    )
    program += "import components; assert components.__file__.startswith(sys.path[0]), components.__file__\n"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lock(name: str) -> str:
    return (ROOT / "images" / name).read_text()


LOCKS = sorted(str(path.relative_to(ROOT / "images")) for path in (ROOT / "images").glob("*/*.lock"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_a_hash_and_no_lock_names_an_index(name):
    text = lock(name).replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert packages
    assert all("--hash=sha256:" in line for line in packages), [line[:60] for line in packages if "--hash" not in line]
    assert "://" not in text


def packages(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", lock(name), flags=re.MULTILINE))


def test_batch_images_have_kfp_without_its_dependencies():
    for name in ("data/requirements.lock", "train/requirements-cpu.lock", "export/requirements.lock"):
        assert "kfp" in packages(name)
        assert not {"kubernetes", "kfp-server-api", "google-cloud-storage"} & packages(name)


def test_torch_is_where_it_is_needed_and_cuda_only_in_its_own_lock():
    assert [name for name in LOCKS if "torch" in packages(name)] == [
        "export/requirements.lock", "train/requirements-cpu.lock", "train/requirements-cuda.lock",
    ]  # fmt: skip
    with_cuda = [name for name in LOCKS if any(package.startswith("nvidia-") for package in packages(name))]
    assert with_cuda == ["train/requirements-cuda.lock"]
    assert re.search(r"^torch==[0-9.]+\+cpu ", lock("train/requirements-cpu.lock"), flags=re.MULTILINE)


@pytest.mark.parametrize("name", RUNNING)
def test_a_dockerfile_pins_installs_before_code_and_runs_as_a_number(name):
    lines = (ROOT / "images" / name / "Dockerfile").read_text()
    final = lines[lines.rindex("\nFROM ") :]
    assert "\nUSER 10001:10001\n" in final
    assert "apt-get" not in final
    assert "--require-hashes" in lines
    assert lines.index("--require-hashes") < lines.index("COPY app /app")
    assert "org.opencontainers.image.title" in final
    assert "ARG BASE_IMAGE" in lines
    assert not re.search(r"https?://", lines)


def test_the_arguments_of_a_build_name_llama_cpp_by_its_own_tag():
    assert build_arguments("model-server", SETTINGS)["LLAMA_IMAGE"] == (
        f"registry.example/lorry/llama:{tag('llama', SETTINGS)}"
    )
    assert build_arguments("train", SETTINGS)["TORCH"] == "cpu"


def build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "images.build", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_a_release_refuses_a_base_without_a_digest():
    done = build("--release", LORRY_BASE_IMAGE="debian:12")
    assert done.returncode == 1
    assert done.stderr.startswith("error: base_image debian:12: a release needs a base with a digest (name@sha256:…)")


def test_a_machine_without_a_container_engine_is_told_which_to_install():
    done = build(PATH="/nowhere")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: no container engine answers; install or start one of docker, podman, buildah, or set ENGINE"
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LORRY_TORCH", "rocm", "image setting torch = 'rocm': input should be 'cuda' or 'cpu'"),
        ("LORRY_REGISTRY", "Registry/", "image setting registry = 'Registry/': string should match pattern"),
        ("LORRY_TAG", "latest", "image tag 'latest' is refused: it moves"),
    ],
)
def test_a_wrong_setting_is_told_with_its_variable(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(RecipeError) as caught:
        load_settings()
    assert message in str(caught.value)
