"""One GGUF file, checked and opened: what export proves, what evaluation measures and what the server serves."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import ModelError
from components.gguf.file import check_file
from components.gguf.kernels import load_proven_kernels
from components.gguf.sampling import Sampling
from components.gguf.vocabulary import GgufVocabulary
from components.modeling.chat_template import fingerprint
from components.runtime.cores import usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions whose logits are held at once: 32 MB of a vocabulary of 128,000.
LOGITS_BLOCK = 64
# Rows that a decoder of one conversation takes at once.
SERIAL_ROWS = 512


class GgufModel(GgufVocabulary):
    """A loaded model: conversations to token ids, and what it says to them.

    One thread at a time may compute with it (``decoder``, ``generate``, ``logits``); any may tokenize beside that.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        n_places: int = 1,
        n_rows: int = SERIAL_ROWS,
        template: str | None = None,
    ) -> None:
        """Load ``path`` for ``n_places`` conversations of at most ``n_ctx`` tokens each (0: as trained).

        ``n_threads`` 0: every usable core. ``n_rows``: the most that is decoded at once. ``template`` stands in the
        place of the file's own chat template.

        Raises:
            ModelError: llama.cpp cannot load it, no kernels run here, or its chat template is not its manifest's.
        """
        checked = check_file(path)
        load_proven_kernels(path)
        import llama_cpp

        from components.gguf.context import LlamaDecoder
        from components.gguf.log import last_errors, listen_to_llama

        listen_to_llama()
        self.manifest = checked.manifest
        self.context_length = checked.context_length
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelError(f"{path}: llama.cpp cannot load it ({last_errors()}); export it again")
        super().__init__(path, model)
        self.n_parameters = int(llama_cpp.llama_model_n_params(self._model))
        # Of its tensors: the file is a little larger.
        self.size_bytes = int(llama_cpp.llama_model_size(self._model))
        if self.manifest is not None and fingerprint(self.template) != self.manifest.template_fingerprint:
            raise ModelError(f"{path}: its chat template is not the one that {MANIFEST_NAME} names; export it again")
        if template is not None:
            self.template = template
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

    def sampler(self, sampling: Sampling, matcher: Any = None) -> Any:
        """What draws the tokens of one answer, those that ``matcher`` allows; whoever asked closes it."""
        from components.gguf.sampler import LlamaSampler

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
        from components.gguf.context import Rows

        return self.decoder.decode([Rows(0, tokens, start, wanted)])


class TextStream:
    """Bytes of tokens to text, holding back a character until it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """The characters that ``piece`` completes."""
        return self._decoder.decode(piece)
