"""Which of llama.cpp's CPU kernels run on this node: proven in a child process before they are used.

The images carry one ``libggml-cpu-<variant>`` for each class of processor. llama.cpp alone would take the fastest one
that the processor claims to support; some virtual machines claim instructions that they do not execute, and the first
token then kills the process. A build for one machine (``make``) has its kernels inside and needs none of this.

The child is ``python -m components.gguf.proof MODEL [VARIANT]``: it is killed by a signal, or computes a token.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from components.errors import ModelError

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "LLAMA_CPP_LIB_PATH"
PATTERN = "libggml-cpu-*.so"
# How often OpenMP's threads poll before they sleep, read when the library loads; a third of its own default. A tenth of
# this costs an idle machine a tenth of its speed; beside busy neighbours, threads that poll take cores from them.
SPIN_VARIABLE, SPIN_COUNT = "GOMP_SPINCOUNT", "100000"
# Signals of an instruction that the processor does not have, and of kernels that access wrong memory.
FATAL_SIGNALS = {signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP, signal.SIGABRT}

_loaded: list[Path] = []


def load_proven_kernels(model: Path) -> None:
    """Load the fastest kernels that compute a token of ``model`` here; later calls change nothing.

    Raises:
        ModelError: none of them does.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None or _loaded:
        return
    candidates = by_score(Path(folder))
    if not candidates:
        return
    for variant in candidates:
        if proven(variant, model):
            load_variant(variant)
            log.info("kernels: %s", variant.stem.removeprefix("lib"))
            return
    raise ModelError(f"{folder}: none of its kernels for CPUs runs on this node; build the image anew for it")


def by_score(folder: Path) -> list[Path]:
    """The variants that claim to run on this processor, the fastest first."""
    scores = {path: _score(path) for path in sorted(folder.glob(PATTERN))}
    return sorted((path for path, score in scores.items() if score > 0), key=lambda path: -scores[path])


def proven(variant: Path, model: Path) -> bool:
    """True unless a child process that computes with this variant is killed by it.

    Raises:
        ModelError: the child was killed from outside.
    """
    if (name := _fatal_signal(model, variant)) is None:
        return True
    log.warning("%s: a token computed with it dies of %s on this node; trying the next variant", variant.name, name)
    return False


def require_token(model: Path) -> None:
    """Check in a child process that the kernels of this build compute a token of ``model`` here.

    Raises:
        ModelError: they kill the process.
    """
    if by_score(Path(folder)) if (folder := os.environ.get(FOLDER_VARIABLE)) else []:
        return  # load_proven_kernels does it for every variant
    if (name := _fatal_signal(model)) is not None:
        raise ModelError(
            f"{model}: a token computed with it dies of {name}: the file is damaged, or llama.cpp was built for "
            "another processor; export the model again, or build anew here (rm -r .venv, make install)"
        )


def _fatal_signal(model: Path, variant: Path | None = None) -> str | None:
    """The name of the signal that kills a child which computes a token; None: it computes one, or raises an error."""
    command = [sys.executable, "-m", "components.gguf.proof", str(model), *([str(variant)] if variant else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if -done.returncode in FATAL_SIGNALS:
        return signal.Signals(-done.returncode).name
    if -done.returncode == signal.SIGKILL:
        raise ModelError(
            f"{model}: the node killed the process that tried to load it, most likely for want of memory; give the pod "
            "a higher memory limit"
        )
    # Any other failure is the model's, and is reported when it is loaded in this process.
    return None


def _score(variant: Path) -> int:
    """The variant's own score on this processor, higher is faster; 0: it does not run."""
    try:
        library = ctypes.CDLL(str(variant))
    except OSError as error:
        log.warning("%s: cannot be loaded (%s)", variant.name, error)
        return 0
    return int(library.ggml_backend_score())


def load_variant(variant: Path) -> None:
    """Load the kernels of one variant; ``load_proven_kernels`` changes nothing afterwards."""
    _load(variant)
    _loaded.append(variant)


def _load(variant: Path) -> None:
    import llama_cpp  # noqa: F401  (libllama loads the libggml whose registry is used: a second copy has its own)

    library = ctypes.CDLL(str(variant.parent / "libggml.so"))
    library.ggml_backend_load.restype = ctypes.c_void_p
    library.ggml_backend_load.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load(str(variant).encode())
