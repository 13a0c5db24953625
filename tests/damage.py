"""Damage to a model that its size and its form do not show."""

from __future__ import annotations

import json
from pathlib import Path

from gguf import GGUFReader

from components.storage.digests import sha256_of


def zero_a_layer(folder: Path, layer: int) -> None:
    """Set every weight of one layer of an exported ``folder``'s file to zero; its manifest then fits again."""
    manifest_path = folder / "model.json"
    manifest = json.loads(manifest_path.read_text())
    path = folder / manifest["file"]
    reader = GGUFReader(path, "r+")
    matrices = [
        tensor for tensor in reader.tensors if tensor.name.startswith(f"blk.{layer}.") and tensor.n_elements > 4096
    ]
    assert matrices
    for tensor in matrices:
        tensor.data[:] = 0
    reader.data.flush()
    manifest_path.write_text(json.dumps({**manifest, "sha256": sha256_of(path)}))
