"""llama.cpp's context on its low-level API: tokens of several sequences in, logits out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from components.errors import LorryError, ModelError

# llama_decode's status when the abort callback returned true.
ABORTED = 2


class AbortedError(LorryError):
    """The computation was aborted; the KV cache still holds what the sequences had before it."""


class Abort:
    """Ends a computation from another thread, in the middle of a ``decode``.

    llama.cpp calls a C function after each operation, a thousand times for a batch. A Python function would wait for
    the interpreter's lock each time; the C library's ``strlen`` does not: its text is empty until ``request``.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)

    def request(self) -> None:
        """End the computation that was given this object, whether it runs now or begins later."""
        self._text[0] = b"!"

    @property
    def requested(self) -> bool:
        """True from the request on."""
        return self._text[0] != b"\0"

    @property
    def address(self) -> int:
        """Address of the text, which is valid as long as this object."""
        return ctypes.addressof(self._text)


@dataclass(frozen=True)
class BatchItem:
    """Consecutive tokens of one sequence in a batch.

    The KV cache of sequence ``seq_id`` holds its first ``pos`` tokens, so ``pos`` is the position of ``tokens[0]``.
    ``logits``: for each of the tokens, whether the logits after it are computed; as long as ``tokens``.
    """

    seq_id: int
    tokens: Sequence[int]
    pos: int
    logits: Sequence[bool]


class Context:
    """A model's KV cache and compute buffers; one thread at a time may use it.

    The KV cache has ``n_parallel`` sequences of ``n_ctx`` tokens each, all allocated at the start: 32 kB for each token
    of a Llama of 1.2 billion parameters (2 x 16 layers x 8 KV heads x 64 values x 2 bytes). The sequences do not share
    one pool of cells (``kv_unified`` off), because attention over a unified cache goes over the cells of all sequences:
    apart, a batch of one token from each sequence is as fast as in llama.cpp's own server.
    """

    def __init__(
        self, model: Any, *, n_ctx: int, n_parallel: int, n_threads: int, n_batch: int, n_outputs: int
    ) -> None:
        """A batch has at most ``n_batch`` tokens, and logits after at most ``n_outputs`` of them.

        Raises:
            ModelError: there is not enough memory.
        """
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_ctx * n_parallel
        parameters.n_seq_max = n_parallel
        parameters.n_batch = parameters.n_ubatch = n_batch
        self.n_outputs = parameters.n_outputs_max = n_outputs
        parameters.n_threads = parameters.n_threads_batch = n_threads
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
        parameters.kv_unified = False
        self.pointer = llama_cpp.llama_init_from_model(model, parameters)
        if not self.pointer:
            raise ModelError(
                f"llama.cpp cannot make a context of {n_parallel} times {n_ctx} tokens; give the process more memory, "
                "or ask for fewer parallel sequences or a shorter context"
            )
        self.n_ctx = int(llama_cpp.llama_n_ctx_seq(self.pointer))
        self.n_parallel, self.n_batch, self.n_threads = n_parallel, n_batch, n_threads
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._memory = llama_cpp.llama_get_memory(self.pointer)
        self._make_batch()

    def decode(self, items: Sequence[BatchItem], abort: Abort | None = None) -> list[int]:
        """Compute a batch; give the indices in it of the tokens whose logits were computed, for ``logits``.

        Raises:
            AbortedError: ``abort`` was requested; call ``seq_rm`` for what lies behind the items' ``pos``.
            ModelError: llama.cpp cannot; the sequences of these items are then empty.
        """
        n = 0
        for item in items:
            end = n + len(item.tokens)
            self._tokens[n:end] = item.tokens
            self._positions[n:end] = range(item.pos, item.pos + len(item.tokens))
            self._seq_ids[n:end] = item.seq_id
            self._logits[n:end] = item.logits
            n = end
        self._batch.n_tokens = n
        callback = _STRLEN if abort else _NO_CALLBACK
        llama_cpp.llama_set_abort_callback(self.pointer, callback, abort.address if abort else None)
        status = llama_cpp.llama_decode(self.pointer, self._batch)
        if status == ABORTED:
            raise AbortedError("the computation was ended")
        if status != 0:
            for item in items:
                self.seq_rm(item.seq_id)
            raise ModelError(f"llama.cpp cannot compute {n} tokens (status {status}); ask again")
        return np.flatnonzero(self._logits[:n]).tolist()

    def logits(self, index: int) -> NDArray[np.float32]:
        """Logits after the token at ``index`` of the last batch, (vocabulary,); valid until the next batch."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.pointer, index), (self.n_vocab,))

    def set_n_threads(self, n_threads: int) -> None:
        """Compute with ``n_threads`` threads from now on."""
        llama_cpp.llama_set_n_threads(self.pointer, n_threads, n_threads)

    def seq_rm(self, seq_id: int, p0: int = 0) -> bool:
        """Remove a sequence's tokens from position ``p0`` on; False: this kind of model can only remove all of them."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, seq_id, p0, -1))

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        """A copy of what the KV cache holds of a sequence, (bytes,)."""
        state = np.empty(llama_cpp.llama_state_seq_get_size(self.pointer, seq_id), dtype=np.uint8)
        llama_cpp.llama_state_seq_get_data(self.pointer, _bytes(state), state.size, seq_id)
        return state

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        """Put a copy of any sequence's state into ``seq_id``; False: llama.cpp does not take it."""
        self.seq_rm(seq_id)
        return bool(llama_cpp.llama_state_seq_set_data(self.pointer, _bytes(state), state.size, seq_id) > 0)

    def close(self) -> None:
        """Free the context."""
        llama_cpp.llama_free(self.pointer)

    def _make_batch(self) -> None:
        """A llama_batch over numpy arrays, each (n_batch,), which are filled without a loop over tokens."""
        self._tokens = np.zeros(self.n_batch, dtype=np.int32)
        self._positions = np.zeros(self.n_batch, dtype=np.int32)
        self._seq_ids = np.zeros(self.n_batch, dtype=np.int32)
        self._logits = np.zeros(self.n_batch, dtype=np.int8)
        # A token may belong to several sequences: llama.cpp reads how many, and a pointer to their ids. Here it is one.
        self._n_seq_ids = np.ones(self.n_batch, dtype=np.int32)
        first = self._seq_ids.ctypes.data
        self._seq_id_pointers = (first + 4 * np.arange(self.n_batch)).astype(np.uintp)
        batch = llama_cpp.llama_batch()
        batch.token = _pointer(self._tokens, ctypes.c_int32)
        batch.embd = None
        batch.pos = _pointer(self._positions, ctypes.c_int32)
        batch.n_seq_id = _pointer(self._n_seq_ids, ctypes.c_int32)
        batch.seq_id = ctypes.cast(self._seq_id_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        batch.logits = _pointer(self._logits, ctypes.c_int8)
        self._batch = batch


_STRLEN = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
_NO_CALLBACK = llama_cpp.ggml_abort_callback()


def _pointer(array: NDArray[Any], kind: type) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _bytes(array: NDArray[np.uint8]) -> Any:
    return _pointer(array, ctypes.c_uint8)
