"""llama.cpp's context on its low-level API: rows of several conversations in, logits out.

A *place* is one of llama.cpp's sequences: the keys and values of one conversation. Places are kept apart
(``kv_unified`` off): a batch of one row from each is then as fast as in llama.cpp's own server.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from components.errors import LorryError, ModelError

# llama_decode's status where the callback of ``Abort`` has said so.
ABORTED = 2


class AbortedError(LorryError):
    """Nobody wants these rows any more; what their places held before them is still there."""


class Abort:
    """Ends a computation from another thread, in the middle of a ``decode``.

    llama.cpp asks a C function behind each operation, a thousand times a batch. One of Python's would wait for the
    interpreter's lock each time; the C library's ``strlen`` does not: its text is empty until ``request``.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)

    def request(self) -> None:
        """End what is computed now, if it is this, and what would be begun."""
        self._text[0] = b"!"

    @property
    def requested(self) -> bool:
        """True from the request on."""
        return self._text[0] != b"\0"

    @property
    def address(self) -> int:
        """Of the text, which lives as long as this object."""
        return ctypes.addressof(self._text)


@dataclass(frozen=True)
class Rows:
    """Tokens that follow the first ``start`` of a place; ``wanted`` says after which of them logits are read."""

    place: int
    tokens: Sequence[int]
    start: int
    wanted: Sequence[bool]


class LlamaDecoder:
    """The context of a model; one thread at a time may use it."""

    def __init__(self, model: Any, *, n_ctx: int, n_places: int, n_threads: int, n_rows: int, n_outputs: int) -> None:
        """``n_ctx`` tokens for each of ``n_places``; ``n_rows`` at most are decoded at once, ``n_outputs`` wanted.

        The memory is taken at once: 32 kB for each token of each place of a Llama of 1.2 billion parameters.

        Raises:
            ModelError: there is not enough memory.
        """
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_ctx * n_places
        parameters.n_seq_max = n_places
        parameters.n_batch = parameters.n_ubatch = n_rows
        self.n_outputs = parameters.n_outputs_max = n_outputs
        parameters.n_threads = parameters.n_threads_batch = n_threads
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
        parameters.kv_unified = False
        self.context = llama_cpp.llama_init_from_model(model, parameters)
        if not self.context:
            raise ModelError(
                f"llama.cpp cannot make a context of {n_places} times {n_ctx} tokens; give the process more memory, or "
                "ask for fewer places or a shorter context"
            )
        self.n_ctx = int(llama_cpp.llama_n_ctx_seq(self.context))
        self.n_places, self.n_rows, self.n_threads = n_places, n_rows, n_threads
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._memory = llama_cpp.llama_get_memory(self.context)
        self._lay_out_batch()

    def decode(self, rows: Sequence[Rows], abort: Abort | None = None) -> list[int]:
        """Compute; give the batch row of each wanted one, in order, for a sampler or ``logits``.

        Raises:
            AbortedError: ``abort`` was requested; call ``forget`` for what lies behind the rows' starts.
            ModelError: llama.cpp cannot; the places of these rows are then forgotten.
        """
        n = 0
        for part in rows:
            end = n + len(part.tokens)
            self._tokens[n:end] = part.tokens
            self._positions[n:end] = range(part.start, part.start + len(part.tokens))
            self._places[n:end] = part.place
            self._wanted[n:end] = part.wanted
            n = end
        self._batch.n_tokens = n
        asks = _ASKS if abort else _NOBODY_ASKS
        llama_cpp.llama_set_abort_callback(self.context, asks, abort.address if abort else None)
        status = llama_cpp.llama_decode(self.context, self._batch)
        if status == ABORTED:
            raise AbortedError("the computation was ended")
        if status != 0:
            for part in rows:
                self.forget(part.place)
            raise ModelError(f"llama.cpp cannot compute {n} rows (status {status}); ask again")
        return np.flatnonzero(self._wanted[:n]).tolist()

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits after a row of the last batch, (vocabulary,); valid until the next one."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, row), (self.n_vocab,))

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many threads from now on."""
        llama_cpp.llama_set_n_threads(self.context, n_threads, n_threads)

    def forget(self, place: int, keep: int = 0) -> bool:
        """Drop what a place holds behind its first ``keep`` tokens; False: this kind of model can only forget all."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, place, keep, -1))

    def state(self, place: int) -> NDArray[np.uint8]:
        """A copy of everything that a place holds."""
        state = np.empty(llama_cpp.llama_state_seq_get_size(self.context, place), dtype=np.uint8)
        llama_cpp.llama_state_seq_get_data(self.context, _bytes(state), state.size, place)
        return state

    def restore(self, place: int, state: NDArray[np.uint8]) -> bool:
        """Give a place what ``state`` has copied, from whichever place; False: llama.cpp does not take it."""
        self.forget(place)
        return bool(llama_cpp.llama_state_seq_set_data(self.context, _bytes(state), state.size, place) > 0)

    def close(self) -> None:
        """Free the context."""
        llama_cpp.llama_free(self.context)

    def _lay_out_batch(self) -> None:
        """A llama_batch over numpy's arrays, which a step fills without a loop over rows."""
        self._tokens = np.zeros(self.n_rows, dtype=np.int32)
        self._positions = np.zeros(self.n_rows, dtype=np.int32)
        self._places = np.zeros(self.n_rows, dtype=np.int32)
        self._wanted = np.zeros(self.n_rows, dtype=np.int8)
        self._n_places_of = np.ones(self.n_rows, dtype=np.int32)
        # llama.cpp reads a pointer to the places of each row; here each row has one.
        first = self._places.ctypes.data
        self._place_pointers = (first + 4 * np.arange(self.n_rows)).astype(np.uintp)
        batch = llama_cpp.llama_batch()
        batch.token = _pointer(self._tokens, ctypes.c_int32)
        batch.embd = None
        batch.pos = _pointer(self._positions, ctypes.c_int32)
        batch.n_seq_id = _pointer(self._n_places_of, ctypes.c_int32)
        batch.seq_id = ctypes.cast(self._place_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        batch.logits = _pointer(self._wanted, ctypes.c_int8)
        self._batch = batch


_ASKS = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
_NOBODY_ASKS = llama_cpp.ggml_abort_callback()


def _pointer(array: NDArray[Any], kind: type) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _bytes(array: NDArray[np.uint8]) -> Any:
    return _pointer(array, ctypes.c_uint8)
