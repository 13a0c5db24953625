"""A small exported model for the tests of publishing and fetching, which read no more of it than its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from components.artifacts.contracts import MANIFEST_NAME, BaseModelRef, ModelManifest
from components.publish_model.config import PublishConfig
from components.publish_model.publish import publish

CONTENT = b"GGUF" + bytes(range(256)) * 64
FILE = "model-Q8_0.gguf"


def write_model(folder: Path, content: bytes = CONTENT, **changes: Any) -> Path:
    """A folder with a file and its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(content)
    known: dict[str, Any] = {
        "file": FILE, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content),
        "f16_size_bytes": 2 * len(content), "reduction": 0.5, "quantization": "Q8_0", "n_parameters": 1,
        "context_length": 512, "base_model": BaseModelRef(address="owner/base", revision="abc", weight_bytes=1),
        "base_license": None, "run_key": "key", "data_fingerprint": "d", "adapter_step": 1,
        "template_fingerprint": "t", "evaluation": {"loss": 1.5}, "converter": "c",
    }  # fmt: skip
    manifest = ModelManifest.model_validate({**known, **changes})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return folder


def put(model: Path, address: str, **settings: Any) -> str:
    """Publish a model; its digest."""
    return publish(PublishConfig(store=address), model_path=str(model), recipe="tiny", **settings).sha256
