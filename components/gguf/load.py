"""Opening a GGUF file with llama.cpp: the kernels are proven first, and its log is kept for the error message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.errors import ModelError
from components.gguf.kernels import load_proven_kernels


def load_llama_model(path: Path, *, vocab_only: bool = False) -> Any:
    """llama.cpp's pointer to the model of ``path``, on the CPU; ``vocab_only``: without its weights.

    The caller frees it with ``llama_model_free``.

    Raises:
        ModelError: no kernels run on this node, or llama.cpp cannot load the file.
    """
    load_proven_kernels(path)
    # Only now: the first import of llama_cpp loads the library.
    import llama_cpp

    from components.gguf.log import capture_log, last_errors

    capture_log()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.vocab_only = vocab_only
    model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelError(f"{path}: llama.cpp cannot load it ({last_errors()}); export it again")
    return model
