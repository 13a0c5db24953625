"""One GGUF file, checked and opened: what export proves, what evaluation measures and what the server serves."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.chat_template import fingerprint, render
from components.contracts import MANIFEST_NAME, Message
from components.cores import usable_cores
from components.errors import ModelError
from components.gguf_file import check_file
from components.llama_kernels import load_proven_kernels
from components.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions whose logits are held at once: 32 MB of a vocabulary of 128,000.
LOGITS_BLOCK = 64
# Rows that a decoder of one conversation takes at once.
SERIAL_ROWS = 512
# The longest value of a key that is read back, such as a chat template.
MAX_VALUE_BYTES = 1 << 20


class GgufModel:
    """A loaded model: conversations to token ids, token ids to text.

    One thread at a time may compute with it (``decoder``, ``generate``, ``logits``); any may tokenize beside that.
    """

    def __init__(
        self, path: Path, *, n_ctx: int = 0, n_threads: int = 0, n_places: int = 1, n_rows: int = SERIAL_ROWS
    ) -> None:
        """Load ``path`` for ``n_places`` conversations of at most ``n_ctx`` tokens each (0: as trained).

        ``n_threads`` 0: every usable core. ``n_rows``: the most that is decoded at once.

        Raises:
            ModelError: llama.cpp cannot load it, no kernels run here, it has no chat template, or not its manifest's.
        """
        self.path = path
        checked = check_file(path)
        load_proven_kernels(path)
        import llama_cpp

        from components.llama_decoder import LlamaDecoder
        from components.llama_log import last_errors, listen_to_llama

        listen_to_llama()
        self.manifest = checked.manifest
        self.context_length = checked.context_length
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise ModelError(f"{path}: llama.cpp cannot load it ({last_errors()}); export it again")
        self.n_parameters = int(llama_cpp.llama_model_n_params(self._model))
        # Of its tensors: the file is a little larger.
        self.size_bytes = int(llama_cpp.llama_model_size(self._model))
        self.vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.template = self._metadata("tokenizer.chat_template") or ""
        if not self.template:
            raise ModelError(f"{path}: has no chat template; export it from a base model that has one")
        if self.manifest is not None and fingerprint(self.template) != self.manifest.template_fingerprint:
            raise ModelError(f"{path}: its chat template is not the one that {MANIFEST_NAME} names; export it again")
        self._pieces: dict[int, bytes] = {}
        self.decoder = LlamaDecoder(
            self._model,
            n_ctx=min(n_ctx or checked.context_length, checked.context_length),
            n_places=n_places,
            n_threads=n_threads or usable_cores(),
            n_rows=n_rows,
            n_outputs=min(max(LOGITS_BLOCK, n_places), n_rows),
        )
        # llama.cpp rounds a context up; what was not trained is not used.
        self.n_ctx = min(self.decoder.n_ctx, n_ctx or checked.context_length, checked.context_length)

    def close(self) -> None:
        """Free the weights and the context."""
        import llama_cpp

        self.decoder.close()
        llama_cpp.llama_model_free(self._model)

    def prompt_tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, as training saw them."""
        text = render(
            self.template,
            messages,
            bos_token=self._special("tokenizer.ggml.bos_token_id"),
            eos_token=self._special("tokenizer.ggml.eos_token_id"),
            add_generation_prompt=add_generation_prompt,
        )
        return self.tokenize(text, special=True)

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        """Token ids of a text. ``special``: what looks like a special token is one; ``begin``: one begins the text.

        Raises:
            ModelError: llama.cpp cannot.
        """
        import llama_cpp

        encoded = text.encode()
        room = len(encoded) + 2
        tokens = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(self.vocab, encoded, len(encoded), tokens, room, begin, special)
        if n < 0:
            raise ModelError(f"llama.cpp cannot turn {len(encoded)} bytes into tokens")
        return list(tokens[:n])

    def sampler(self, sampling: Sampling, matcher: Any = None) -> Any:
        """What draws the tokens of one answer, those that ``matcher`` allows; whoever asked closes it."""
        from components.llama_sampler import LlamaSampler

        return LlamaSampler(self.vocab, sampling, n_ctx=self.n_ctx, matcher=matcher)

    def generate(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Token ids one by one, without end: the caller stops at ``is_end``, at its limit or at ``n_ctx``."""
        sampler = self.sampler(sampling)
        try:
            for row in self._rows_with_logits(tokens, [*[False] * (len(tokens) - 1), True]):
                last = row[-1]
            token, n_done = sampler.sample(self.decoder.context, last), len(tokens)
            while True:
                yield token
                (last,) = self._decode([token], n_done, [True])
                token, n_done = sampler.sample(self.decoder.context, last), n_done + 1
        finally:
            sampler.close()

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool]) -> Iterator[NDArray[np.float32]]:
        """Logits after each token of ``tokens`` that is wanted, block by block, each (positions, vocabulary).

        Raises:
            ModelError: llama.cpp cannot compute them.
        """
        import numpy as np

        for rows in self._rows_with_logits(tokens, wanted, LOGITS_BLOCK):
            yield np.stack([self.decoder.logits(row) for row in rows])

    def is_end(self, token: int) -> bool:
        """True for the tokens that end a turn."""
        import llama_cpp

        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; a character can be spread over several. Special tokens have none."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token, special=False)
        return self._pieces[token]

    def _rows_with_logits(
        self, tokens: Sequence[int], wanted: Sequence[bool], block: int = SERIAL_ROWS
    ) -> Iterator[list[int]]:
        self.decoder.forget(0)
        block = min(block, self.decoder.n_rows)
        for start in range(0, len(tokens), block):
            rows = self._decode(tokens[start : start + block], start, wanted[start : start + block])
            if rows:
                yield rows

    def _decode(self, tokens: Sequence[int], start: int, wanted: Sequence[bool]) -> list[int]:
        from components.llama_decoder import Rows

        return self.decoder.decode([Rows(0, tokens, start, wanted)])

    def _metadata(self, key: str) -> str | None:
        import ctypes

        import llama_cpp

        value = ctypes.create_string_buffer(MAX_VALUE_BYTES)
        n = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        if n >= len(value):
            raise ModelError(f"{self.path}: its {key} has {n} bytes, more than {MAX_VALUE_BYTES}; export it again")
        return None if n < 0 else value.value.decode(errors="replace")

    def _special(self, key: str) -> str:
        token = self._metadata(key)
        return "" if token is None else self._piece(int(token), special=True).decode()

    def _piece(self, token: int, *, special: bool) -> bytes:
        import ctypes

        import llama_cpp

        room = 64
        while True:
            text = ctypes.create_string_buffer(room)
            n = llama_cpp.llama_token_to_piece(self.vocab, token, text, room, 0, special)
            if n >= 0:
                return text.raw[:n]
            room = -n


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
