"""One GGUF file, checked and opened: what export proves, what evaluation measures and what the server serves."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import ModelError
from components.gguf.file import check_file
from components.gguf.load import load_llama_model
from components.gguf.sampling import Sampling
from components.gguf.vocabulary import GgufVocabulary
from components.modeling.chat_template import fingerprint
from components.runtime.cores import usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions whose logits are held at once: 32 MB of a vocabulary of 128,000.
LOGITS_BLOCK = 64
DEFAULT_N_BATCH = 512


class GgufModel(GgufVocabulary):
    """A loaded model: its vocabulary, its context, and what it generates.

    One thread at a time may compute with it (``context``, ``generate``, ``logits``); any may tokenize beside that.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        n_parallel: int = 1,
        n_batch: int = DEFAULT_N_BATCH,
        template: str | None = None,
    ) -> None:
        """Load ``path`` for ``n_parallel`` sequences of at most ``n_ctx`` tokens each (0: as trained).

        ``n_threads`` 0: every usable core. ``n_batch``: the most tokens of a batch. ``template`` replaces the file's
        own chat template.

        Raises:
            ModelError: llama.cpp cannot load it, no kernels run here, or its chat template is not its manifest's.
        """
        checked = check_file(path)
        super().__init__(path, load_llama_model(path))
        import llama_cpp

        from components.gguf.context import Context

        self.manifest = checked.manifest
        self.context_length = checked.context_length
        self.n_parameters = int(llama_cpp.llama_model_n_params(self._model))
        # Of its tensors: the file is a little larger.
        self.size_bytes = int(llama_cpp.llama_model_size(self._model))
        if self.manifest is not None and fingerprint(self.template) != self.manifest.template_fingerprint:
            raise ModelError(f"{path}: its chat template is not the one that {MANIFEST_NAME} names; export it again")
        if template is not None:
            self.template = template
        self.context = Context(
            self._model,
            n_ctx=min(n_ctx or checked.context_length, checked.context_length),
            n_parallel=n_parallel,
            n_threads=n_threads or usable_cores(),
            n_batch=n_batch,
            n_outputs=min(max(LOGITS_BLOCK, n_parallel), n_batch),
        )
        # llama.cpp rounds a context up; what was not trained is not used.
        self.n_ctx = min(self.context.n_ctx, n_ctx or checked.context_length, checked.context_length)

    def close(self) -> None:
        """Free the weights and the context."""
        import llama_cpp

        self.context.close()
        llama_cpp.llama_model_free(self._model)

    def sampler(self, sampling: Sampling, matcher: Any = None) -> Any:
        """A sampler for one answer, which draws only tokens that ``matcher`` allows; the caller closes it."""
        from components.gguf.sampler import Sampler

        return Sampler(self.vocab, sampling, n_ctx=self.n_ctx, matcher=matcher)

    def generate(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Token ids one by one, without end: the caller stops at ``is_end``, at its limit or at ``n_ctx``."""
        sampler = self.sampler(sampling)
        try:
            for indices in self._prefill(tokens, [*[False] * (len(tokens) - 1), True]):
                last = indices[-1]
            token, pos = sampler.sample(self.context, last), len(tokens)
            while True:
                yield token
                (last,) = self._decode([token], pos, [True])
                token, pos = sampler.sample(self.context, last), pos + 1
        finally:
            sampler.close()

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool]) -> Iterator[NDArray[np.float32]]:
        """Logits after each of ``tokens`` that is ``wanted``, in blocks of (at most ``LOGITS_BLOCK``, vocabulary).

        Raises:
            ModelError: llama.cpp cannot compute them.
        """
        import numpy as np

        for indices in self._prefill(tokens, wanted, LOGITS_BLOCK):
            yield np.stack([self.context.logits(index) for index in indices])

    def _prefill(
        self, tokens: Sequence[int], wanted: Sequence[bool], n_chunk: int = DEFAULT_N_BATCH
    ) -> Iterator[list[int]]:
        """Compute ``tokens`` from the start, ``n_chunk`` at a time; the batch indices of each chunk that wants any."""
        self.context.seq_rm(0)
        n_chunk = min(n_chunk, self.context.n_batch)
        for pos in range(0, len(tokens), n_chunk):
            indices = self._decode(tokens[pos : pos + n_chunk], pos, wanted[pos : pos + n_chunk])
            if indices:
                yield indices

    def _decode(self, tokens: Sequence[int], pos: int, wanted: Sequence[bool]) -> list[int]:
        from components.gguf.context import BatchItem

        return self.context.decode([BatchItem(0, tokens, pos, wanted)])


class TextStream:
    """Bytes of tokens to text, holding back a character until it is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """The characters that ``piece`` completes."""
        return self._decoder.decode(piece)
