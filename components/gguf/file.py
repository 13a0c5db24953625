"""The header of a GGUF file, read with bounds before llama.cpp maps it: a file is hostile until it is proven good.

llama.cpp's own reader has had overflows (CVE-2025-53630, CVE-2026-27940), and the gguf package trusts every length.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import ModelError
from components.storage.digests import sha256_of

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 10_000
MAX_TENSORS = 100_000
MAX_ARRAY = 10_000_000
MAX_KEY_BYTES = 65_535
MAX_DIMENSIONS = 4
MAX_NESTING = 2
DEFAULT_ALIGNMENT = 32
# The scalar types of the format by number; 8 is a string and 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Counts of every architecture that would be divided by, or allocate; the bound is far above any real model.
COUNTS = {
    "context_length": 2**27, "embedding_length": 2**20, "block_count": 2**14, "attention.head_count": 2**14,
    "attention.head_count_kv": 2**14,
}  # fmt: skip


@dataclass(frozen=True)
class CheckedFile:
    """What is known of a GGUF file before llama.cpp opens it; ``context_length`` is the trained one, in tokens."""

    manifest: ModelManifest | None
    context_length: int


def model_in(folder: Path) -> Path:
    """The GGUF file that a folder's ``model.json`` names.

    Raises:
        ModelError: there is no manifest, or it cannot be read.
    """
    manifest = _manifest_of(folder)
    if manifest is None:
        raise ModelError(f"{folder}: holds no {MANIFEST_NAME}; give a .gguf file, or a folder that an export made")
    return folder / manifest.file


def read_manifest(path: Path) -> ModelManifest | None:
    """The ``model.json`` beside a GGUF file when it names this file, else None.

    Raises:
        ModelError: it is there and cannot be read.
    """
    manifest = _manifest_of(path.parent)
    return manifest if manifest and manifest.file == path.name else None


def _manifest_of(folder: Path) -> ModelManifest | None:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return ModelManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{path}: cannot be read ({error.errors()[0]['msg']}); export the model again") from error


def check_file(path: Path) -> CheckedFile:
    """Check a GGUF file without llama.cpp; its manifest counts when one lies beside it.

    Raises:
        ModelError: it is missing, not GGUF, damaged, or not the file that its manifest names.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; give the path of a .gguf file")
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ModelError(
            f"{path}: not a GGUF file (it begins with {magic!r}, not {MAGIC!r}); give the path of a .gguf file"
        )
    manifest = read_manifest(path)
    if manifest is not None:
        if size != manifest.size_bytes:
            raise ModelError(
                f"{path}: {size} bytes, but its {MANIFEST_NAME} says {manifest.size_bytes}: the file is truncated or "
                "another one; copy or export it again"
            )
        digest = sha256_of(path)
        if digest != manifest.sha256:
            raise ModelError(
                f"{path}: its sha256 is {digest[:12]}…, but its {MANIFEST_NAME} says {manifest.sha256[:12]}…: "
                "the file was changed or damaged; copy or export it again"
            )
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return CheckedFile(manifest, _Header(content).context_length)
        except _DamageError as error:
            raise ModelError(f"{path}: truncated or damaged ({error}); copy or export it again") from error


class _DamageError(Exception):
    """Why a file is refused."""


class _Header:
    """Reads the keys and the tensor descriptions of a GGUF file; every length is compared with the rest of the file.

    ``_offset`` is the position of the next byte to read.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._offset = len(MAGIC)
        (version,) = self._read("I", "the version")
        if version not in VERSIONS:
            raise _DamageError(f"version {version}; this reads {' and '.join(map(str, VERSIONS))}")
        n_tensors, n_keys = self._read("QQ", "the counts")
        _bound(n_tensors, MAX_TENSORS, "tensors")
        _bound(n_keys, MAX_KEYS, "keys")
        self._values: dict[str, Any] = {}
        for _ in range(n_keys):
            self._read_key()
        self.context_length = self._check_values()
        self._check_tensors(n_tensors)

    def _read_key(self) -> None:
        key = self._string("a key", MAX_KEY_BYTES)
        if key in self._values:
            raise _DamageError(f"the key {key!r} is there twice")
        (kind,) = self._read("I", f"the type of {key!r}")
        self._values[key] = self._value(kind, key)

    def _value(self, kind: int, key: str, nesting: int = 0) -> Any:
        """A value; of an array only its length, as a range: no check needs the items."""
        if kind == STRING:
            return self._string(repr(key))
        if kind != ARRAY:
            return self._read(_scalar(kind, key), repr(key))[0]
        item_kind, length = self._read("IQ", f"the array {key!r}")
        _bound(length, MAX_ARRAY, f"items in {key!r}")
        if item_kind == STRING:
            for _ in range(length):
                self._skip_string(repr(key))
        elif item_kind == ARRAY:
            if nesting + 1 >= MAX_NESTING:
                raise _DamageError(f"arrays in arrays in {key!r}")
            for _ in range(length):
                self._value(ARRAY, key, nesting + 1)
        else:
            self._skip(length * struct.calcsize("<" + _scalar(item_kind, key)), repr(key))
        return range(length)

    def _check_values(self) -> int:
        """Check the keys that every model needs; the context length."""
        architecture = self._values.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise _DamageError("no general.architecture")
        counts: dict[str, int] = {}
        for name, maximum in COUNTS.items():
            key = f"{architecture}.{name}"
            count = self._values.get(key, counts.get("attention.head_count") if name.endswith("_kv") else None)
            if isinstance(count, range):  # one for each layer
                count = len(count)
            if isinstance(count, bool) or not isinstance(count, int):
                raise _DamageError(f"{key} is {'missing' if count is None else 'no whole number'}")
            if not 0 < count <= maximum:
                raise _DamageError(f"{key} is {count}, not between 1 and {maximum}")
            counts[name] = count
        if not isinstance(self._values.get("tokenizer.ggml.tokens"), range):
            raise _DamageError("no vocabulary (tokenizer.ggml.tokens)")
        n_tokens = len(self._values["tokenizer.ggml.tokens"])
        for name in ("scores", "token_type"):
            listed = self._values.get(f"tokenizer.ggml.{name}")
            if listed is not None and (not isinstance(listed, range) or len(listed) != n_tokens):
                raise _DamageError(f"tokenizer.ggml.{name} is no list of {n_tokens}, one for each token")
        for name in ("bos", "eos", "eot", "unknown", "padding"):
            token = self._values.get(f"tokenizer.ggml.{name}_token_id", 0)
            if not isinstance(token, int) or not 0 <= token < n_tokens:
                raise _DamageError(f"tokenizer.ggml.{name}_token_id is {token}, and there are {n_tokens} tokens")
        return counts["context_length"]

    def _check_tensors(self, n_tensors: int) -> None:
        if n_tensors == 0:
            raise _DamageError("no tensors")
        alignment = self._values.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8 or alignment > 2**20:
            raise _DamageError(f"general.alignment is {alignment}")
        names, spans = set(), []
        for _ in range(n_tensors):
            name, offset, n_bytes = self._tensor(alignment)
            if name in names:
                raise _DamageError(f"the tensor {name!r} is there twice")
            names.add(name)
            spans.append((offset, offset + n_bytes, name))
        begin = -(-self._offset // alignment) * alignment
        end = begin + max(end for _, end, _ in spans)
        if end > len(self._content):
            raise _DamageError(f"its tensors need {end} bytes, it has {len(self._content)}")
        spans.sort()
        for (_, before, first), (after, _, second) in pairwise(spans):
            if after < before:
                raise _DamageError(f"the tensors {first!r} and {second!r} overlap")

    def _tensor(self, alignment: int) -> tuple[str, int, int]:
        """Name, offset and size in bytes of one tensor."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self._string("a tensor's name", 63)
        (n_dimensions,) = self._read("I", f"the tensor {name!r}")
        if not 0 < n_dimensions <= MAX_DIMENSIONS:
            raise _DamageError(f"the tensor {name!r} has {n_dimensions} dimensions")
        shape = self._read(f"{n_dimensions}Q", f"the tensor {name!r}")
        kind, offset = self._read("IQ", f"the tensor {name!r}")
        if kind not in iter(GGMLQuantizationType):
            raise _DamageError(f"the tensor {name!r} has the unknown type {kind}")
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        n_elements = math.prod(shape)
        if not 0 < n_elements <= len(self._content) * block:
            raise _DamageError(f"the tensor {name!r} has the shape {list(shape)}, more or less than the file can hold")
        if shape[0] % block:
            raise _DamageError(f"the rows of {name!r} have {shape[0]} values, no multiple of {block}")
        if offset % alignment or offset > len(self._content):
            raise _DamageError(f"the tensor {name!r} lies at {offset}, outside the file or not aligned")
        return name, offset, n_elements // block * block_bytes

    def _read(self, form: str, what: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        begin = self._offset
        self._skip(size, what)
        return struct.unpack_from("<" + form, self._content, begin)

    def _skip(self, n_bytes: int, what: str) -> None:
        if n_bytes > len(self._content) - self._offset:
            raise _DamageError(f"it ends within {what}")
        self._offset += n_bytes

    def _skip_string(self, what: str) -> None:
        (length,) = self._read("Q", what)
        self._skip(length, what)

    def _string(self, what: str, max_bytes: int | None = None) -> str:
        (length,) = self._read("Q", what)
        if max_bytes is not None and length > max_bytes:
            raise _DamageError(f"{what} of {length} bytes")
        begin = self._offset
        self._skip(length, what)
        try:
            return self._content[begin : self._offset].decode()
        except UnicodeDecodeError:
            raise _DamageError(f"{what} is no text") from None


def _scalar(kind: int, key: str) -> str:
    if kind not in SCALARS:
        raise _DamageError(f"{key!r} has the unknown type {kind}")
    return SCALARS[kind]


def _bound(count: int, maximum: int, what: str) -> None:
    if count > maximum:
        raise _DamageError(f"{count} {what}, more than {maximum}")
