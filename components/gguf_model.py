"""One GGUF file, checked and opened: what export proves and what the server serves.

A model file is hostile until proven otherwise: its size, its digest and its tensors' bounds are checked before
llama.cpp maps it, and its chat template renders in a sandbox.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.chat_template import fingerprint, render
from components.contracts import MANIFEST_NAME, Message, ModelManifest
from components.digest import sha256_of
from components.errors import ModelError
from components.llama_kernels import load_proven_kernels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"GGUF"
# Positions whose logits are held at once: 32 MB of a vocabulary of 128,000.
LOGITS_BLOCK = 64


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; ``temperature`` 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


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
    """The ``model.json`` beside a GGUF file when it speaks of this file, else None.

    Raises:
        ModelError: there is one that cannot be read.
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


@dataclass(frozen=True)
class CheckedFile:
    """What is known of a GGUF file before llama.cpp sees it; ``context_length`` is the trained one, in tokens."""

    manifest: ModelManifest | None
    context_length: int


def check_file(path: Path) -> CheckedFile:
    """Check a GGUF file without mapping it into llama.cpp; its manifest counts when one lies beside it.

    Raises:
        ModelError: it is missing, not GGUF, truncated, or not the file that its manifest names.
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
    return CheckedFile(manifest, _check_tensors(path, size))


def _check_tensors(path: Path, size: int) -> int:
    """Check that the file holds what its head promises; give the trained context length."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        tensors = reader.tensors
        architecture = reader.fields["general.architecture"].contents()
        context_length = int(reader.fields[f"{architecture}.context_length"].contents())
    except (ValueError, KeyError, IndexError, OverflowError, TypeError, MemoryError) as error:
        raise ModelError(f"{path}: truncated or damaged ({error}); copy or export it again") from error
    end = max((int(tensor.data_offset) + int(tensor.n_bytes) for tensor in tensors), default=0)
    if not tensors or end > size:
        raise ModelError(f"{path}: truncated: its tensors need {end} bytes, it has {size}; copy or export it again")
    return context_length


def usable_cores() -> int:
    """Cores that this process may run on; less than the machine's where an affinity is set."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class GgufModel:
    """A loaded model: conversations to token ids, token ids to text. One thread at a time may use it."""

    def __init__(self, path: Path, *, n_ctx: int = 0, n_threads: int = 0) -> None:
        """Load ``path`` with a context of at most ``n_ctx`` tokens (0: as trained) on ``n_threads`` (0: every core).

        The context's memory is taken at once: 32 kB a token for a Llama of 1.2 billion parameters.

        Raises:
            ModelError: llama.cpp cannot load it, no kernels run here, it has no chat template, or not its manifest's.
        """
        from llama_cpp import Llama

        self.path = path
        checked = check_file(path)
        load_proven_kernels(path)
        self.manifest = checked.manifest
        self.context_length = checked.context_length
        try:
            self._llama = Llama(
                str(path),
                n_ctx=min(n_ctx or checked.context_length, checked.context_length),
                n_threads=n_threads or usable_cores(),
                n_threads_batch=n_threads or usable_cores(),
                # Only the tokens: templates render in Lorry's own sandbox.
                chat_format="chatml",
                verbose=False,
            )
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: llama.cpp cannot load it ({error}); export it again") from error
        self.n_ctx: int = self._llama.n_ctx()
        self.template = self._llama.metadata.get("tokenizer.chat_template", "")
        if not self.template:
            raise ModelError(f"{path}: has no chat template; export it from a base model that has one")
        if self.manifest is not None and fingerprint(self.template) != self.manifest.template_fingerprint:
            raise ModelError(f"{path}: its chat template is not the one that {MANIFEST_NAME} names; export it again")

    def close(self) -> None:
        """Free the weights and the context."""
        self._llama.close()

    def prompt_tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, as training saw them."""
        text = render(
            self.template,
            messages,
            bos_token=self._special("tokenizer.ggml.bos_token_id"),
            eos_token=self._special("tokenizer.ggml.eos_token_id"),
            add_generation_prompt=add_generation_prompt,
        )
        tokens: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return tokens

    def generate(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Token ids one by one, without end: the caller stops at ``is_end``, at its limit or at ``n_ctx``."""
        from llama_cpp import LLAMA_DEFAULT_SEED

        # Set each time: the library keeps a seed for all that follow. The default draws a new one.
        self._llama.set_seed(LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed)
        generated: Iterator[int] = self._llama.generate(
            tokens,
            temp=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            min_p=0.0,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
        )
        return generated

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool]) -> Iterator[NDArray[np.float32]]:
        """Logits after each token of ``tokens`` that is wanted, block by block, each (positions, vocabulary).

        Raises:
            ModelError: llama.cpp cannot compute them.
        """
        import llama_cpp
        import numpy as np

        context, vocabulary = self._llama._ctx.ctx, self._llama.n_vocab()
        self._llama.reset()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = self._llama._batch
        for first in range(0, len(tokens), LOGITS_BLOCK):
            part = tokens[first : first + LOGITS_BLOCK]
            batch.set_batch(part, first, logits_all=False)
            places = [place for place in range(len(part)) if wanted[first + place]]
            for place in range(len(part)):
                batch.batch.logits[place] = wanted[first + place]
            if (status := llama_cpp.llama_decode(context, batch.batch)) != 0:
                raise ModelError(f"{self.path}: llama.cpp cannot compute {len(tokens)} tokens (status {status})")
            if places:
                rows = [
                    np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (vocabulary,)) for i in places
                ]
                yield np.stack(rows)

    def is_end(self, token: int) -> bool:
        """True for the tokens that end a turn."""
        from llama_cpp import llama_vocab_is_eog

        return bool(llama_vocab_is_eog(self._llama._model.vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; a character can be spread over several. Special tokens have none."""
        piece: bytes = self._llama.detokenize([token])
        return piece

    def _special(self, key: str) -> str:
        token = self._llama.metadata.get(key)
        return "" if token is None else self._llama.detokenize([int(token)], special=True).decode()


class TextStream:
    """Bytes of tokens to text, holding back a character until it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """The characters that ``piece`` completes."""
        return self._decoder.decode(piece)

    def rest(self) -> str:
        """What is left at the end; an unfinished character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)
