"""The container images: what is in each, and its name. Registry and tag come from here and nowhere else.

A tag is a hash of what an image is built from, so it never moves, and a change of one part gives new tags only to the
images that hold it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from components.errors import RecipeError
from pipelines.config.steps import STEPS, Step
from pipelines.graph.fingerprint import ROOT, code_fingerprint, files_of, installed_versions

FOLDER = ROOT / "images"
SETTINGS = FOLDER / "settings.yaml"
VERSION = "0.1.0"
# The name that components give their image, before registry and tag: lorry/<image>.
PREFIX = "lorry/"

_LOCKED = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


class ImageSettings(BaseModel):
    """Where the images are kept and what they are built on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9./:_-]*[a-z0-9]$", description="registry and folder, no ending '/'")
    ]
    base_image: Annotated[
        str, Field(pattern=r"^[a-z0-9][\w./:@-]*$", description="a Debian-like image with Python 3.11 and its venv")
    ]
    platform: Annotated[
        str,
        Field(
            pattern=r"^linux/(amd64|arm64)$", description="processor of the cluster's nodes, linux/amd64 or linux/arm64"
        ),
    ]
    torch: Annotated[Literal["cuda", "cpu"], Field(description="what the train image carries")]
    tag: Annotated[
        str | None,
        Field(pattern=r"^[\w][\w.-]{0,127}$", description="one that never moves; None = a hash of the content"),
    ] = None


@dataclass(frozen=True)
class Image:
    """One image: its folder in ``images/``, and the parts of ``components/`` that run in it."""

    name: str
    parts: tuple[str, ...] = ()
    holds_torch: bool = False
    holds_llama: bool = False


# What runs beside the steps of pipelines: servers, Jobs, init containers; and the split, where it asks the base model.
_BESIDE_STEPS = {
    "data": ("prepare_volumes", "argo_retries", "collect_garbage"),
    "train": ("split_data",),
    "model-server": ("model_server", "fetch_model"),
    "chat": ("chat",),
}


@cache
def images() -> dict[str, Image]:
    """Every image by its name; a step is in the image that its ``component.py`` names."""
    parts: dict[str, tuple[str, ...]] = {}
    for step in STEPS.values():
        parts[image_of(step)] = (*parts.get(image_of(step), ()), step.name)
    made = [
        # What two others copy llama.cpp from; it never runs.
        Image("llama"),
        Image("data"),
        Image("train", holds_torch=True),
        Image("export", holds_llama=True),
        Image("model-server", holds_llama=True),
        Image("chat"),
    ]
    if unknown := parts.keys() - {image.name for image in made}:
        raise RecipeError(f"image {sorted(unknown)[0]!r}: a component.py names it, and images/ has no such folder")
    return {
        image.name: replace(image, parts=(*parts.get(image.name, ()), *_BESIDE_STEPS.get(image.name, ())))
        for image in made
    }


def image_of(step: Step) -> str:
    """The name of the image that a step's component names.

    Raises:
        RecipeError: there is no component of the step's name.
    """
    component = getattr(import_module(f"components.{step.name}.component"), step.name, None)
    if component is None:
        raise RecipeError(f"components/{step.name}/component.py: has no component {step.name}; name the function so")
    return str(component.component_spec.implementation.container.image).removeprefix(PREFIX)


def load_settings() -> ImageSettings:
    """``images/settings.yaml``, overruled by ``LORRY_REGISTRY``, ``LORRY_BASE_IMAGE``, ``LORRY_TORCH``, …

    Raises:
        RecipeError: a value cannot be used; ``latest`` never can.
    """
    values = dict(YAML(typ="safe").load(SETTINGS.read_text(encoding="utf-8")))
    for field in ImageSettings.model_fields:
        if given := os.environ.get(f"LORRY_{field.upper()}"):
            values[field] = given
    try:
        settings = ImageSettings.model_validate(values)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(detail) for detail in error.errors())) from error
    if settings.tag == "latest":
        raise RecipeError(
            "image tag 'latest' is refused: it moves, and Kubeflow reuses a step by the name of its image; "
            "leave LORRY_TAG out (the tag is then a hash of the content), or give one that never moves"
        )
    return settings


def _explain(detail: Any) -> str:
    name = str(detail["loc"][0])
    description = ImageSettings.model_fields[name].description if name in ImageSettings.model_fields else "unknown key"
    return (
        f"image setting {name} = {detail['input']!r}: {detail['msg'].lower()} ({description}); "
        f"correct it in {SETTINGS.relative_to(ROOT)} or in LORRY_{name.upper()}"
    )


def reference(name: str, settings: ImageSettings) -> str:
    """``<registry>/<name>:<tag>`` of one image."""
    return f"{settings.registry}/{name}:{tag(name, settings)}"


def tag(name: str, settings: ImageSettings) -> str:
    """The image's tag: 16 hexadecimal digits over its files and build arguments, unless the settings name one."""
    if settings.tag is not None:
        return settings.tag
    digest = hashlib.sha256()
    for target, source in sorted(_context(name, settings).items()):
        digest.update(target.encode() + b"\0" + source.read_bytes() + b"\0")
    for argument, value in sorted({**build_arguments(name, settings), "platform": settings.platform}.items()):
        digest.update(f"{argument}={value}\0".encode())
    return digest.hexdigest()[:16]


def build_arguments(name: str, settings: ImageSettings) -> dict[str, str]:
    """What the Dockerfile is given, by name."""
    image = images()[name]
    arguments = {"BASE_IMAGE": settings.base_image}
    if image.parts:
        arguments["VERSION"] = VERSION
    if image.holds_torch:
        arguments["TORCH"] = settings.torch
    if image.holds_llama:
        arguments["LLAMA_IMAGE"] = reference("llama", settings)
    return arguments


def write_context(name: str, folder: Path, settings: ImageSettings) -> None:
    """Lay out what the image is built from, and nothing else, in ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    for target, source in _context(name, settings).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)
    # The images' user reads them, whatever the builder's umask is.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _context(name: str, settings: ImageSettings) -> dict[str, Path]:
    """The image's files by their path in the build context."""
    image = images()[name]
    files = {path.name: path for path in (FOLDER / name / "Dockerfile", *_locks(image, settings))}
    for part in image.parts:
        files.update({f"app/{path.relative_to(ROOT)}": path for path in files_of(part)})
    return files


def step_fingerprint(name: str, settings: ImageSettings | None, *, image: str | None = None) -> str:
    """The fingerprint of a step's code and libraries: in its image, or on this machine where ``settings`` is None.

    ``image``: another one than the step's own.
    """
    locked = _locked_versions(images()[image or image_of(STEPS[name])], settings)
    if settings is None:
        locked = {library: found for library, found in installed_versions().items() if library in locked}
    return code_fingerprint(f"components.{name}.component", locked)


def lock_files(name: str, settings: ImageSettings) -> list[Path]:
    """The locks of the Python packages in a finished image; what llama.cpp was built with is not in it."""
    image = images()[name]
    llama = [FOLDER / "llama" / "llama-cpp-python.lock"]
    return llama if name == "llama" else _locks(image, settings) + (llama if image.holds_llama else [])


def _locked_versions(image: Image, settings: ImageSettings | None) -> dict[str, str]:
    """The versions of the libraries in an image, by distribution; where it has several for several Pythons, all."""
    locks = _locks(image, settings) + (_locks(images()["llama"], settings) if image.holds_llama else [])
    found: dict[str, set[str]] = {}
    for lock in locks:
        for library, locked in _LOCKED.findall(lock.read_text(encoding="utf-8")):
            found.setdefault(library, set()).add(locked)
    return {library: ",".join(sorted(locked)) for library, locked in found.items()}


def _locks(image: Image, settings: ImageSettings | None) -> list[Path]:
    """The lock files of an image; the train image has one for each torch, of which the settings choose."""
    locks = sorted((FOLDER / image.name).glob("*.lock"))
    if settings is None or not image.holds_torch:
        return locks
    return [path for path in locks if settings.torch in path.stem]
