"""Kernels are proven in a child process before they are used.

The folder is the one that an image has: libllama and, beside it, variants of the CPU kernels. The library here is the
checkout's own, which has its kernels inside; the variants are small libraries that score, and die or do not. What the
images' own variants do is the business of `make image-check`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest

from components.errors import ModelError
from components.gguf import kernels as llama_kernels
from components.gguf.kernels import by_score, load_proven_kernels, proven, require_token

LIBRARIES = Path(llama_cpp.__file__).parent / "lib"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An image's library folder without variants yet."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for library in LIBRARIES.iterdir():
        (folder / library.name).symlink_to(library)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(folder))
    monkeypatch.setattr(llama_kernels, "_loaded", [])
    return folder


def variant(folder: Path, name: str, score: int, does: str = "return 0;") -> Path:
    """Kernels that claim ``score`` and, when they are used, do what the C code says."""
    path = folder / f"libggml-cpu-{name}.so"
    source = f"int ggml_backend_score(void) {{ return {score}; }} void *ggml_backend_init(void) {{ {does} }}"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=source, text=True, check=True)
    return path


def test_the_fastest_comes_first_and_what_does_not_run_here_not_at_all(folder):
    slow, fast = variant(folder, "slow", 1), variant(folder, "fast", 7)
    variant(folder, "of-another-processor", 0)
    assert by_score(folder) == [fast, slow]


def test_kernels_that_kill_their_process_are_not_proven(folder, tiny_run, caplog):
    assert proven(variant(folder, "good", 1), tiny_run.model)
    assert not proven(variant(folder, "broken", 9, "__builtin_trap();"), tiny_run.model)
    assert "libggml-cpu-broken.so: a token computed with it dies of SIG" in caplog.text


SERVE = """
import sys
from pathlib import Path
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from components.artifacts.contracts import Message
from components.gguf.model import GgufModel
from components.gguf.sampling import Sampling
model = GgufModel(Path(sys.argv[1]), n_ctx=128)
print("token:", next(model.generate(model.prompt_tokens([Message(role="user", content="Hi")]), Sampling())))
"""


def serve(model: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SERVE, str(model)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)


def test_a_model_is_loaded_with_the_best_kernels_that_live(folder, tiny_run):
    variant(folder, "broken", 9, "__builtin_trap();")
    variant(folder, "good", 5)
    variant(folder, "slow", 1)
    done = serve(tiny_run.model)
    assert done.returncode == 0, done.stderr
    assert "token:" in done.stdout
    assert "kernels: ggml-cpu-good" in done.stderr
    assert "slow" not in done.stderr


def test_a_node_on_which_none_lives_is_told(folder, tiny_run):
    variant(folder, "broken", 9, "__builtin_trap();")
    done = serve(tiny_run.model)
    assert f"{folder}: none of its kernels for CPUs runs on this node; build the image anew for it" in done.stderr
    assert done.returncode == 1


def test_a_build_for_this_machine_has_its_kernels_inside(tiny_run, monkeypatch):
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH", raising=False)
    done = serve(tiny_run.model)
    assert done.returncode == 0, done.stderr
    assert "kernels:" not in done.stderr


def test_a_variant_that_cannot_be_loaded_does_not_run_here(folder, caplog):
    (folder / "libggml-cpu-broken.so").write_bytes(b"no library")
    good = variant(folder, "good", 3)
    assert by_score(folder) == [good]
    assert "libggml-cpu-broken.so: cannot be loaded" in caplog.text


def child_ends(monkeypatch, code: int) -> list[list[str]]:
    """The child process ends with ``code``; the commands that start it."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.mark.parametrize("code", [0, 1, 2, -signal.SIGTERM])
def test_a_child_that_no_kernel_killed_proves_them(monkeypatch, code):
    """An error of its own is the model's, and is reported where it is loaded."""
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH", raising=False)
    commands = child_ends(monkeypatch, code)
    require_token(Path("model.gguf"))
    assert [command[1:] for command in commands] == [["-m", "components.gguf.proof", "model.gguf"]]


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE"])
def test_a_build_whose_kernels_die_is_refused_with_the_signal_and_what_to_do(monkeypatch, name):
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH", raising=False)
    child_ends(monkeypatch, -signal.Signals[name])
    with pytest.raises(ModelError, match=rf"model\.gguf: .* dies of {name}: .*export the model again, or build anew"):
        require_token(Path("model.gguf"))


def test_a_child_that_the_node_killed_says_nothing_of_the_kernels(monkeypatch, folder, tiny_run):
    path = variant(folder, "good", 3)
    child_ends(monkeypatch, -signal.SIGKILL)
    with pytest.raises(ModelError, match=r"for want of memory; give the pod a higher memory limit"):
        proven(path, tiny_run.model)


def test_where_there_are_variants_each_is_proven_when_it_is_loaded(monkeypatch, folder):
    variant(folder, "good", 3)
    commands = child_ends(monkeypatch, -signal.SIGILL)
    require_token(Path("model.gguf"))
    assert commands == []


def test_kernels_are_loaded_once(monkeypatch, folder):
    _, fast = (variant(folder, name, score) for name, score in (("slow", 1), ("fast", 9)))
    commands = child_ends(monkeypatch, 0)
    loaded: list[Path] = []
    monkeypatch.setattr(llama_kernels, "_load", loaded.append)
    for _ in range(2):
        load_proven_kernels(Path("model.gguf"))
    assert loaded == [fast]
    assert [command[3:] for command in commands] == [["model.gguf", str(fast)]]
