"""The shape of a base model: its tensors and its config, read without the weights."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError
from components.storage.store import Store, in_bucket
from pipelines.config.addresses import claim_of
from pipelines.resolve.hub import ask_hub

# Parts of the names of matrices that are no linear layer of a block.
NOT_IN_BLOCKS = ("embed", "wte", "wpe", "lm_head", "embedding")
ALL_LINEAR = "all-linear"
MAX_HEADER_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Tensor:
    """One tensor of the weights."""

    name: str
    shape: tuple[int, ...]
    n_bytes: int

    @property
    def n_weights(self) -> int:
        return prod(self.shape)

    @property
    def is_linear(self) -> bool:
        """Whether it is the matrix of a linear layer within a block."""
        return len(self.shape) == 2 and not any(part in self.name for part in NOT_IN_BLOCKS)


@dataclass(frozen=True)
class ModelShape:
    """What an estimate needs to know of a base model."""

    tensors: tuple[Tensor, ...]
    config: Mapping[str, Any]

    def _of(self, key: str, *others: str) -> int:
        for name in (key, *others):
            if isinstance(value := self.config.get(name), int):
                return value
        raise ModelError(f"the base model's config.json has no {key}; the run cannot be estimated")

    @property
    def hidden_size(self) -> int:
        return self._of("hidden_size", "n_embd", "d_model")

    @property
    def n_layers(self) -> int:
        return self._of("num_hidden_layers", "n_layer", "num_layers")

    @property
    def vocab_size(self) -> int:
        return self._of("vocab_size")

    @property
    def intermediate_size(self) -> int:
        return (
            self._of("intermediate_size", "n_inner", "ffn_dim")
            if "intermediate_size" in self.config
            else (4 * self.hidden_size)
        )

    @property
    def attention_width(self) -> int:
        """Heads times the size of a head."""
        heads = self._of("num_attention_heads", "n_head")
        return heads * int(self.config.get("head_dim") or self.hidden_size // heads)

    @property
    def key_width(self) -> int:
        """The width of the keys of a token, and of its values."""
        heads = self._of("num_attention_heads", "n_head")
        return self.attention_width * int(self.config.get("num_key_value_heads") or heads) // heads

    @cached_property
    def n_parameters(self) -> int:
        return sum(tensor.n_weights for tensor in self.tensors)

    @cached_property
    def n_linear(self) -> int:
        """Weights of the linear layers within the blocks; of a mixture of experts all of them."""
        return sum(tensor.n_weights for tensor in self.tensors if tensor.is_linear or len(tensor.shape) == 3)

    @cached_property
    def n_computing(self) -> float:
        """Weights of the blocks that a token is multiplied with."""
        experts = self.config.get("num_local_experts") or self.config.get("num_experts") or 0
        share = int(self.config.get("num_experts_per_tok") or 1) / experts if experts else 1.0
        return sum(
            tensor.n_weights * (share if "experts." in tensor.name or len(tensor.shape) == 3 else 1.0)
            for tensor in self.tensors
            if tensor.is_linear or len(tensor.shape) == 3
        )

    @property
    def n_head(self) -> int:
        """Weights of the output layer."""
        return self.vocab_size * self.hidden_size

    @cached_property
    def stored_bytes(self) -> int:
        return sum(tensor.n_bytes for tensor in self.tensors)

    def n_lora(self, rank: int, targets: str | Sequence[str]) -> int:
        """Trainable parameters of an adapter."""
        return sum(
            rank * sum(tensor.shape)
            for tensor in self.tensors
            if tensor.is_linear and _is_target(tensor.name.removesuffix(".weight"), targets)
        )


def _is_target(module: str, targets: str | Sequence[str]) -> bool:
    """Whether peft would train a module: a single string is a pattern of the whole name, one of a list a suffix."""
    if targets == ALL_LINEAR:
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def read_shape(base_model: BaseModelRef) -> ModelShape:
    """The shape of a base; of one in 4 bits that of its full weights.

    Raises:
        ModelError: its files cannot be read from this machine.
    """
    base = base_model.to_merge_into
    if claim_of(base.address):
        raise ModelError(f"base_model {base.address}: on a cluster's volume, which only the cluster can read")
    if in_bucket(base.address):
        return _in_bucket(base.address)
    return _in_folder(Path(base.address)) if base.is_local else _on_hub(base)


def _in_folder(folder: Path) -> ModelShape:
    headers = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (n_bytes,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            headers.append(_header(str(path), file.read(min(n_bytes, MAX_HEADER_BYTES))))
    return _shape(str(folder), headers, (folder / "config.json").read_bytes())


def _in_bucket(address: str) -> ModelShape:
    store = Store(address)
    headers = []
    for key in store.keys(""):
        if key.endswith(".safetensors"):
            content = b""
            for chunk in store.chunks(key):
                content += chunk
                if len(content) >= 8 + struct.unpack("<Q", content[:8])[0]:
                    break
            headers.append(_header(store.address_of(key), content[8 : 8 + struct.unpack("<Q", content[:8])[0]]))
    return _shape(address, headers, store.read("config.json"))


def _on_hub(base: BaseModelRef) -> ModelShape:
    from huggingface_hub import get_safetensors_metadata, hf_hub_download

    def look_up() -> Any:
        return get_safetensors_metadata(base.address, revision=base.revision)

    found = ask_hub("model", base.address, look_up, ModelError)
    tensors = [
        Tensor(name, tuple(info.shape), info.data_offsets[1] - info.data_offsets[0])
        for file in found.files_metadata.values()
        for name, info in file.tensors.items()
    ]
    config = ask_hub(
        "model", base.address, lambda: hf_hub_download(base.address, "config.json", revision=base.revision), ModelError
    )
    return ModelShape(tuple(tensors), _text_config(json.loads(Path(config).read_bytes())))


def _header(path: str, content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except ValueError as error:
        raise ModelError(f"{path}: its header cannot be read ({error}); fetch the file again") from error


def _shape(address: str, headers: Iterable[Mapping[str, Any]], config: bytes) -> ModelShape:
    tensors = [
        Tensor(name, tuple(info["shape"]), info["data_offsets"][1] - info["data_offsets"][0])
        for header in headers
        for name, info in header.items()
        if name != "__metadata__"
    ]
    if not tensors:
        raise ModelError(f"base_model {address}: holds no safetensors weights; the run cannot be estimated")
    return ModelShape(tuple(tensors), _text_config(json.loads(config)))


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about the language model, where a config has several."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else config
