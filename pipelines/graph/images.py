"""The container images: what is in each, and its name. Registry and tag come from here and nowhere else.

A tag is a hash of what an image is built from, so it never moves, and a change of one part gives new tags only to the
images that hold it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from components.errors import RecipeError
from pipelines.graph.fingerprint import ROOT, files_of

FOLDER = ROOT / "images"
SETTINGS = FOLDER / "settings.yaml"
VERSION = "0.1.0"
# The name that components give their image, before registry and tag: lorry/<image>.
PREFIX = "lorry/"


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


IMAGES = {
    image.name: image
    for image in (
        # What two others copy llama.cpp from; it never runs.
        Image("llama"),
        Image(
            "data",
            (
                *("split_data", "promote_trials", "compare_runs", "publish_sweep"),
                *("gate", "publish_model", "prepare_volumes", "argo_retries"),
            ),
        ),
        Image("train", ("train_lora", "train_trial", "evaluate", "split_data"), holds_torch=True),
        Image("export", ("export_gguf", "evaluate_gguf"), holds_llama=True),
        Image("model-server", ("model_server", "fetch_model"), holds_llama=True),
        Image("chat", ("chat",)),
    )
}


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
        raise RecipeError("\n".join(_in_words(detail) for detail in error.errors())) from error
    if settings.tag == "latest":
        raise RecipeError(
            "image tag 'latest' is refused: it moves, and Kubeflow reuses a step by the name of its image; "
            "leave LORRY_TAG out (the tag is then a hash of the content), or give one that never moves"
        )
    return settings


def _in_words(detail: Any) -> str:
    name = str(detail["loc"][0])
    description = ImageSettings.model_fields[name].description if name in ImageSettings.model_fields else "unknown key"
    return (
        f"image setting {name} = {detail['input']!r}: {detail['msg'].lower()} ({description}); "
        f"mend it in {SETTINGS.relative_to(ROOT)} or in LORRY_{name.upper()}"
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
    image = IMAGES[name]
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
    # The images' user reads them, whatever the builder's umask says.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _context(name: str, settings: ImageSettings) -> dict[str, Path]:
    """The image's files by their place in the build context."""
    image = IMAGES[name]
    locks = [path for path in (FOLDER / name).glob("*.lock") if not image.holds_torch or settings.torch in path.stem]
    files = {path.name: path for path in (FOLDER / name / "Dockerfile", *locks)}
    for part in image.parts:
        files.update({f"app/{path.relative_to(ROOT)}": path for path in files_of(part)})
    if image.parts:
        files["app/components/__init__.py"] = ROOT / "components" / "__init__.py"
    return files
