"""What many tests share: a tiny base model, tiny data, and one run of the whole pipeline."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.artifacts.contracts import Row
from components.artifacts.rows import read_rows
from components.split_data.config import SplitConfig
from components.split_data.split import SplitOutputs, split
from components.split_data.summary import Summary
from pipelines.local.workdir import RunResult, read_result

# Set before any test imports a library that would reach for a hub or a display.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["LORRY_CACHE"] = tempfile.mkdtemp(prefix="lorry-tests-")
atexit.register(shutil.rmtree, os.environ["LORRY_CACHE"], ignore_errors=True)
# The models of the tests are tiny, and OpenMP's threads that spin on cores which others use stop each other. The
# benchmarks, which use this module too, measure with the threads that a user has.
if "PYTEST_VERSION" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["GOMP_SPINCOUNT"] = "1000"

ROOT = Path(__file__).parent.parent
CHATS = ROOT / "tests" / "data" / "chats.jsonl"

Chat = dict[str, Any]


def chat(*turns: str) -> Chat:
    """A row in the ``messages`` format: user and assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]}


def chat_rows(n: int) -> list[Chat]:
    """The first ``n`` of 390 conversations about Lorry and what it is made of, each about something else."""
    return [json.loads(line) for line in CHATS.read_text(encoding="utf-8").splitlines()[:n]]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """``rows`` as JSON lines; a string is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class SplitResult:
    """What a split wrote."""

    outputs: SplitOutputs
    counts: dict[str, int]

    def rows(self, name: str) -> list[Row]:
        return read_rows(getattr(self.outputs, name))

    def ids(self, name: str) -> set[str]:
        return {row.id for row in self.rows(name)}

    def outcomes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(self.outputs.outcomes).read_text(encoding="utf-8").splitlines()]

    def reasons(self) -> dict[int, str]:
        return {row["line"]: row["reason"] for row in self.outcomes() if row["outcome"] == "dropped"}

    def summary(self) -> Summary:
        return Summary.model_validate_json(Path(self.outputs.summary).read_bytes())


def split_data(folder: Path, config: SplitConfig) -> SplitResult:
    """Split as ``config`` says; what it writes goes into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train", "validation", "test", "report.html", "summary.json", "outcomes.jsonl")
    outputs = SplitOutputs(*(str(folder / name) for name in names))
    return SplitResult(outputs, split(config, outputs))


def split_rows(folder: Path, rows: Sequence[Any], **settings: Any) -> SplitResult:
    """Split ``rows``; what it writes goes into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_jsonl(folder / "rows.jsonl", rows)
    return split_data(folder, SplitConfig.model_validate({"data": str(data), **settings}))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model, but smaller and hardly trained."""
    from pipelines.resolve.tiny_base import TinyBaseConfig, tiny_base

    config = TinyBaseConfig(
        vocab_size=512, intermediate_size=256, num_hidden_layers=1, max_position_embeddings=512, max_steps=3, window=32
    )
    return tiny_base(tmp_path_factory.mktemp("base"), config)


def recipe_text(base_model: Path | str, data: Path | str, **train: Any) -> str:
    """A recipe that runs in seconds."""
    settings = {
        "lora_rank": 4,
        "learning_rate": 0.01,
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_length": 96,
        "eval_steps": 3,
        "save_steps": 3,
        "logging_steps": 1,
        **train,
    }
    lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    return (
        f"name: tiny\nbase_model: {base_model}\nsplit:\n  data: {data}\n  validation_rows: 4\n  test_rows: 2\n"
        f"train:\n{lines}evaluate:\n  max_new_tokens: 4\nexport:\n  quantization: Q8_0\n"
        "  example_prompts: [What is Lorry?]\n"
    )


def run_lorry(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """``lorry ARGUMENTS`` as a user runs it."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=ROOT)


class TinyRun:
    """One finished run: its recipe, its work folder and what it printed."""

    def __init__(self, folder: Path, tiny_base: Path) -> None:
        self.folder = folder
        self.workdir = folder / "work"
        self.data = write_jsonl(folder / "data.jsonl", chat_rows(24))
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(recipe_text(tiny_base, self.data))
        self.done = run_lorry("run", self.recipe, "--workdir", self.workdir)
        assert self.done.returncode == 0, self.done.stdout + self.done.stderr
        (self.run_folder,) = (self.workdir / "runs").iterdir()

    @property
    def result(self) -> RunResult:
        """What the run left."""
        result = read_result(self.run_folder)
        assert result is not None
        return result

    @property
    def model(self) -> Path:
        """The exported file."""
        return self.result.model

    @property
    def adapter(self) -> Path:
        """The adapter folder."""
        return self.result.adapter


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> TinyRun:
    """The whole pipeline, once, through the command line."""
    return TinyRun(tmp_path_factory.mktemp("run"), tiny_base)


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def lorry_process(
    *arguments: str | Path, ready: str, lines: list[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """``lorry ARGUMENTS`` in the background until the context ends; waits until the address ``ready`` answers 200.

    What it prints goes into ``lines``, also while it runs: a full pipe would stop it.
    """
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    said = [] if lines is None else lines
    reader = threading.Thread(target=lambda: said.extend(child.stdout or ()), daemon=True)
    reader.start()
    deadline = time.monotonic() + 120
    try:
        while not answers(ready):
            if child.poll() is not None:
                reader.join(timeout=10)
                raise AssertionError("".join(said))
            assert time.monotonic() < deadline, f"{ready} does not answer: {''.join(said)}"
            time.sleep(0.05)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        finally:
            reader.join(timeout=10)
            if child.stdout is not None:
                child.stdout.close()


def answers(url: str) -> bool:
    """True when a GET of the address gives 200."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def server(tiny_run: TinyRun) -> Iterator[str]:
    """The address of a model server that serves the tiny run's model."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process("serve", tiny_run.model, "--port", str(port), ready=f"{address}/readyz"):
        yield address
