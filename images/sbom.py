"""What is in an image, as a CycloneDX document: its locked Python packages, llama.cpp, its Debian packages."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

from components.errors import LorryError
from pipelines.graph.images import ImageSettings, lock_files, reference

FOLDER = Path(__file__).parent.parent / ".build" / "sbom"
# Where a lock has several versions, the image has the one for its own Python.
ENVIRONMENT = {"python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux", "os_name": "posix",
               "platform_system": "Linux", "implementation_name": "cpython",
               "platform_python_implementation": "CPython"}  # fmt: skip
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_DEBIAN = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\\n"]


def write_sbom(name: str, settings: ImageSettings, debian: Iterable[str] = ()) -> Path:
    """Write the document of an image; ``debian`` are lines ``package version architecture``.

    The same image gives the same bytes: there is no time in it, and its serial number follows from the image's name.
    """
    image = reference(name, settings)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image), components=_components(name, settings, debian))
    repository, _, tag = image.rpartition(":")
    bom.metadata.timestamp = None
    described = Component(name=repository, version=tag, type=ComponentType.CONTAINER, bom_ref=image)
    bom.metadata.component = described
    bom.register_dependency(described, list(bom.components))
    path = FOLDER / f"{name}-{tag}.cdx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    path.write_text(document + "\n", encoding="utf-8")
    return path


def debian_packages(engine: str, image: str) -> list[str]:
    """Lines ``package version architecture`` of a built image.

    Raises:
        LorryError: the image cannot be run, or is not Debian-like.
    """
    if engine == "buildah":
        container = _run([engine, "from", image], image).strip()
        try:
            return _run([engine, "run", container, "--", *_DEBIAN], image).splitlines()
        finally:
            subprocess.run([engine, "rm", container], capture_output=True, check=False)
    command = [engine, "run", "--rm", "--network=none", "--entrypoint", _DEBIAN[0], image, *_DEBIAN[1:]]
    return _run(command, image).splitlines()


def _run(command: list[str], image: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LorryError(f"{image}: its Debian packages cannot be listed ({' '.join(done.stderr.split())[-200:]})")
    return done.stdout


def _components(name: str, settings: ImageSettings, debian: Iterable[str]) -> list[Component]:
    environment = {**ENVIRONMENT, "platform_machine": MACHINES[settings.platform]}
    found = [_locked(line, environment) for path in lock_files(name, settings) for line in _lines(path)]
    found += [_debian(line) for line in debian]
    return sorted(
        {one.bom_ref.value: one for one in found if one is not None}.values(), key=lambda one: one.bom_ref.value
    )


def _lines(lock: Path) -> list[str]:
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _locked(line: str, environment: dict[str, str]) -> Component | None:
    """A line of a lock with its hashes; None where its marker does not hold in the image."""
    requirement = Requirement(line.partition("--hash")[0].strip())
    if requirement.marker is not None and not requirement.marker.evaluate(environment):
        return None
    (pinned,) = requirement.specifier
    purl = PackageURL("pypi", None, requirement.name.lower(), pinned.version)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=found) for found in sorted(_HASH.findall(line))]
    return Component(
        name=requirement.name, version=pinned.version, purl=purl, bom_ref=str(purl), hashes=hashes,
    )  # fmt: skip


def _debian(line: str) -> Component:
    package, version, architecture = line.split()
    purl = PackageURL("deb", "debian", package, version, {"arch": architecture})
    return Component(name=package, version=version, purl=purl, bom_ref=str(purl))
