"""A model as an image of a container registry, which pods of Kubernetes 1.33 and later mount as a volume.

Its layers are tar files: containerd unpacks them, and takes no other kind of artifact for a volume. Equal models give
equal bytes, so that a second push uploads nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.storage.container_registry import INDEX, MANIFEST, ContainerRegistry, digest_of

log = logging.getLogger(__name__)

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
# A node takes the manifest of its own processor; the layers are the same.
ARCHITECTURES = ("amd64", "arm64")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One file as a tar file that is made while it is read."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes of the tar file."""
        return sum(part if isinstance(part, int) else len(part) for part in (self._header(), self._length, self._end()))

    @property
    def _length(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def _header(self) -> bytes:
        about = tarfile.TarInfo(self.name)
        about.size, about.mode = self._length, 0o444
        return about.tobuf(tarfile.GNU_FORMAT)

    def _end(self) -> bytes:
        return bytes(-self._length % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes of the tar file."""
        file = io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")
        with file:
            yield cast(BinaryIO, _Joined([io.BytesIO(self._header()), file, io.BytesIO(self._end())], self.size))

    def digest(self) -> str:
        """The digest of the tar file, which is read once for it."""
        found = hashlib.sha256()
        with self.open() as content:
            while chunk := content.read(CHUNK):
                found.update(chunk)
        return f"sha256:{found.hexdigest()}"


class _Joined:
    """Files read one after the other; an HTTP client asks for the length of them all."""

    def __init__(self, files: list[Any], length: int) -> None:
        self._files = files
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while self._files:
            if chunk := self._files[0].read(size):
                return bytes(chunk)
            self._files.pop(0)
        return b""


def push_model_image(repository: str, model: Path, manifest: ModelManifest) -> str:
    """Push a model's file and manifest to a repository, tagged with the model's sha256; give ``repository@digest``.

    Raises:
        StoreError: the registry refuses or does not answer.
    """
    registry = ContainerRegistry(repository)
    about = (manifest.model_dump_json(indent=2) + "\n").encode()
    layers = [Layer(manifest.file, model), Layer(MANIFEST_NAME, about)]
    described = [_push_layer(registry, layer) for layer in layers]
    manifests = [_push_manifest(registry, described, architecture, manifest) for architecture in ARCHITECTURES]
    index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    digest = digest_of(index)
    if registry.manifest_digest(manifest.sha256) != digest:
        registry.put_manifest(index, INDEX, tag=manifest.sha256)
    log.info("%s@%s", repository, digest)
    return f"{repository}@{digest}"


def _push_layer(registry: ContainerRegistry, layer: Layer) -> dict[str, Any]:
    digest = layer.digest()
    _push_blob(registry, digest, layer)
    return {"mediaType": LAYER, "digest": digest, "size": layer.size}


def _push_blob(registry: ContainerRegistry, digest: str, layer: Layer) -> None:
    if registry.blob_size(digest) == layer.size:
        log.info("%s: the registry has it already", layer.name)
        return
    log.info("%s: pushing %.1f MB", layer.name, layer.size / 1e6)
    registry.put_blob(digest, layer.size, layer.open)


def _push_manifest(
    registry: ContainerRegistry, layers: list[dict[str, Any]], architecture: str, manifest: ModelManifest
) -> dict[str, Any]:
    """Push what an architecture's nodes ask for; give its line in the index."""
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
    )
    digest = digest_of(config)
    if registry.blob_size(digest) is None:
        registry.put_blob(digest, len(config), lambda: io.BytesIO(config))
    content = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest, "size": len(config)},
            "layers": layers,
            "annotations": {"io.lorry.model.sha256": manifest.sha256, "org.opencontainers.image.title": manifest.file},
        }
    )
    name = digest_of(content)
    if registry.manifest_digest(name) is None:
        registry.put_manifest(content, MANIFEST)
    platform = {"architecture": architecture, "os": "linux"}
    return {"mediaType": MANIFEST, "digest": name, "size": len(content), "platform": platform}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
