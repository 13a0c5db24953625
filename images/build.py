"""``make images``: build every image with docker, podman or buildah, whichever is there. A tag that exists is kept."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from components.errors import LorryError
from images.sbom import debian_packages, write_sbom
from images.signatures import push, sign, signing_key
from pipelines.graph.images import (
    FOLDER,
    ImageSettings,
    build_arguments,
    images,
    load_settings,
    reference,
    write_context,
)

ENGINES = ("docker", "podman", "buildah")
INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
CONTEXTS = FOLDER.parent / ".build" / "images"


def find_engine(wanted: str | None, known: tuple[str, ...] = ENGINES) -> str:
    """The container engine to use: ``wanted``, or the first of ``known`` that answers.

    Raises:
        LorryError: none is there.
    """
    for engine in (wanted,) if wanted else known:
        # Docker's client is often there without its daemon.
        if shutil.which(engine) and subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0:
            return engine
    raise LorryError(f"no container engine answers; install or start one of {', '.join(known)}, or set ENGINE")


def require_release(settings: ImageSettings) -> None:
    """Check that the base is named by digest.

    Raises:
        LorryError: it is not.
    """
    if "@sha256:" not in settings.base_image:
        raise LorryError(
            f"base_image {settings.base_image}: a release needs a base with a digest (name@sha256:…), so that it can "
            "be built again; set it in images/settings.yaml or in LORRY_BASE_IMAGE"
        )


def exists(engine: str, image: str) -> bool:
    """True when this machine has the image."""
    command = [engine, "inspect", "--type", "image", image]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build(engine: str, name: str, settings: ImageSettings, flags: list[str]) -> None:
    """Build one image under its own tag, unless it is there.

    Raises:
        LorryError: the engine fails; it has said why.
    """
    image, context = reference(name, settings), CONTEXTS / name
    if exists(engine, image):
        print(f"{image}: is there", flush=True)
        return
    write_context(name, context, settings)
    command = [engine, "build", "--tag", image, "--platform", settings.platform, *flags]
    for argument, value in build_arguments(name, settings).items():
        command += ["--build-arg", f"{argument}={value}"]
    for variable in INDEX_VARIABLES:
        if os.environ.get(variable):
            # The engine takes the value from its environment: it may hold a password.
            command += ["--build-arg", variable]
    if config := os.environ.get("PIP_CONFIG_FILE"):
        command += ["--secret", f"id=pip.conf,src={config}"]
    print(f"{image}: building with {engine}", flush=True)
    # Docker's old builder does not know secrets.
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    if subprocess.run([*command, str(context)], env=environment, check=False).returncode != 0:
        raise LorryError(f"{image}: {engine} cannot build it; its own words stand above")


def release(engine: str, name: str, settings: ImageSettings, key: str | None, pushed: str | None) -> None:
    """Write what is in a built image, and sign it where there is a key.

    Raises:
        LorryError: the image cannot be run, or cosign fails.
    """
    # llama has no dpkg: it holds files only.
    debian = [] if name == "llama" else debian_packages(engine, reference(name, settings))
    sbom = write_sbom(name, settings, debian)
    print(f"{reference(name, settings)}: what is in it: {sbom}", flush=True)
    if key and pushed:
        sign(key, pushed, sbom)


def main() -> None:
    """Build them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", help=f"one of {', '.join(ENGINES)}; default: the first that answers")
    parser.add_argument("--push", action="store_true", help="push each image to its registry")
    parser.add_argument("--list", action="store_true", help="print the images' names and build nothing")
    parser.add_argument(
        "--release",
        action="store_true",
        help="refuse a base image without a digest, write what is in each image, and sign it with COSIGN_KEY",
    )
    parser.add_argument("--flags", default="", help="more flags for the engine's build command")
    parser.add_argument("names", nargs="*", help="images to build; default: all")
    given = parser.parse_args()
    try:
        settings = load_settings()
        names = given.names or list(images())
        if given.list:
            print("\n".join(reference(name, settings) for name in names))
            return
        key = None
        if given.release:
            require_release(settings)
            key = signing_key(given.push)
        engine = find_engine(given.engine)
        for name in names:
            build(engine, name, settings, shlex.split(given.flags))
            pushed = push(engine, reference(name, settings)) if given.push else None
            if given.release:
                release(engine, name, settings, key, pushed)
    except LorryError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    finally:
        shutil.rmtree(Path(CONTEXTS), ignore_errors=True)


if __name__ == "__main__":
    main()
