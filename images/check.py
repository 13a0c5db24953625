"""``make image-check``: one tiny real job in each image, as its own user, with a read-only root and no network.

Split the demo's data, train two steps, compare the run, convert, quantize and measure, serve one answer, serve the
page. Only /tmp and the
mounted folder can be written. Each job begins from what the one before it made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.errors import LorryError
from images.build import find_engine
from pipelines.config.recipe import RECIPES
from pipelines.graph.images import load_settings, reference

LOCKED = (
    "--read-only",
    "--network=none",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp",
)

SPLIT = """
from components.artifacts.contracts import BaseModelRef
from components.split_data.config import SplitConfig
from components.split_data.split import SplitOutputs, split
counts = split(
    SplitConfig(
        data="/check/demo.jsonl", limit=40, validation_rows=4, test_rows=2, duplicates={"near": "keep"},
        base_model=BaseModelRef(address="/check/base", revision="not looked at", weight_bytes=0),
    ),
    SplitOutputs(*(f"/check/{name}" for name in ("train", "validation", "test", "report", "summary", "outcomes"))),
)
print("rows for training:", counts["train"])
"""

TRAIN = """
from pathlib import Path
from components.modeling.base_model import folder_revision
from components.artifacts.contracts import BaseModelRef
from components.train_lora.config import TrainConfig
from components.train_lora.train import train
record = train(
    TrainConfig(max_steps=2, max_length=128, eval_steps=2, logging_steps=1, learning_rate=0.01),
    BaseModelRef(address="/check/base", revision=folder_revision(Path("/check/base")), weight_bytes=0),
    code="check", checkpoint_root="/check/checkpoints", train_path="/check/train",
    validation_path="/check/validation", adapter_path="/check/adapter",
)
print("steps:", record.steps)
"""

EXPORT = """
from pathlib import Path
from components.modeling.base_model import folder_revision
from components.artifacts.contracts import BaseModelRef
from components.export_gguf.config import ExportConfig
from components.export_gguf.export import export
manifest = export(
    ExportConfig(quantization="Q4_K_M"),
    BaseModelRef(address="/check/base", revision=folder_revision(Path("/check/base")), weight_bytes=0),
    adapter_path="/check/adapter", evaluation={}, model_path="/check/model", validation_path="/check/validation",
)
print("bytes:", manifest.size_bytes)
"""

COMPARE = """
from pathlib import Path
from components.compare_runs.compare import compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.report import write_reports
from components.compare_runs.run_files import read_run
comparison = compare([read_run(Path("/check/adapter"))], CompareConfig())
made = write_reports(comparison, Path("/check/comparison"))
print("report: bytes of its picture", made["curves.png"].stat().st_size)
"""

MEASURE = """
from pathlib import Path
from components.modeling.base_model import folder_revision
from components.artifacts.contracts import BaseModelRef
from components.evaluate.config import EvaluateConfig
from components.evaluate_gguf.config import EvaluateGgufConfig
from components.evaluate_gguf.evaluate import evaluate_gguf
Path("/check/prompts.yaml").write_text("- {name: one, turns: [Hello]}")
figures = evaluate_gguf(
    EvaluateGgufConfig(n_threads=1), EvaluateConfig(prompts="/check/prompts.yaml", max_new_tokens=4),
    BaseModelRef(address="/check/base", revision=folder_revision(Path("/check/base")), weight_bytes=0),
    adapter_path="/check/adapter", model_path="/check/model", validation_path="/check/validation",
    report_path="/check/quantization.html", answers_path="/check/answers.json",
)
print("same top token:", figures["same_top_token"], "seconds an answer:", figures["quantized_seconds_per_answer"])
"""

ASK = """
import json, time, urllib.request
for attempt in range(240):
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/readyz")
        break
    except OSError:
        time.sleep(0.25)
model = json.load(urllib.request.urlopen("http://127.0.0.1:8080/v1/models"))["data"][0]["id"]
body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
address = "http://127.0.0.1:8080/v1/chat/completions"
request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request))
print("tokens:", answer["usage"]["completion_tokens"])
"""

LOOK = """
import time, urllib.request
for attempt in range(120):
    try:
        page = urllib.request.urlopen("http://127.0.0.1:7860/").read().decode()
        break
    except OSError:
        time.sleep(0.5)
assert "Lorry chat" in page, page[:500]
print("page: bytes", len(page))
"""


class Checker:
    """Runs jobs in the images over one folder that is mounted as /check."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.settings = load_settings()

    def run(self, image: str, program: str) -> str:
        """Run a Python program to its end.

        Raises:
            LorryError: it fails.
        """
        return self._done(self._command("run", "--rm", image, "python3", "-c", program), image)

    def serve(self, image: str, program: str, *flags: str) -> str:
        """Start the image as it starts by itself, and run a program inside that asks it; give what both said.

        Raises:
            LorryError: the program fails.
        """
        name = f"lorry-check-{image}-{os.getpid()}"
        self._done(self._command("run", "--detach", f"--name={name}", *flags, image), image)
        try:
            said = self._done([self.engine, "exec", name, "python3", "-c", program], image, name)
            return self._logs(name) + said
        finally:
            subprocess.run([self.engine, "rm", "--force", name], capture_output=True, check=False)

    def size(self, image: str) -> int:
        """The image's size in bytes."""
        inspect = [self.engine, "image", "inspect", "--format", "{{.Size}}", reference(image, self.settings)]
        return int(self._done(inspect, image))

    def _command(self, verb: str, *arguments: str) -> list[str]:
        position = next(index for index, argument in enumerate(arguments) if not argument.startswith("--"))
        flags, image, rest = arguments[:position], arguments[position], arguments[position + 1 :]
        mount = f"--volume={self.folder}:/check"
        return [self.engine, verb, *LOCKED, mount, *flags, reference(image, self.settings), *rest]

    def _done(self, command: list[str], image: str, container: str | None = None) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log = self._logs(container) if container else ""
            raise LorryError(
                f"{image}: {' '.join(command[:2])} ends with {done.returncode}\n{log}{done.stdout}{done.stderr}"
            )
        return done.stdout

    def _logs(self, container: str) -> str:
        logs = subprocess.run([self.engine, "logs", container], capture_output=True, text=True, check=False)
        return logs.stdout + logs.stderr


def check_model_server(checker: Checker) -> str:
    """Serve one answer; then again beside kernels that claim to be the best and die, as on a node that lies."""
    serving = ("--env=LORRY_MODEL=/check/model",)
    said = checker.serve("model-server", ASK, *serving)
    checker.run("model-server", "import shutil; shutil.copytree('/opt/llama/lib', '/check/lib', symlinks=True)")
    broken_kernels(checker.folder / "lib" / "libggml-cpu-broken.so")
    again = checker.serve("model-server", ASK, *serving, "--env=LLAMA_CPP_LIB_PATH=/check/lib")
    if "libggml-cpu-broken.so: a token computed with it dies of SIG" not in again:
        raise LorryError(f"model-server: the broken kernels were not tried and dropped\n{again}")
    return said + again


def broken_kernels(path: Path) -> None:
    """Compile kernels that score higher than any and die at once."""
    source = "int ggml_backend_score(void) { return 1 << 30; } void *ggml_backend_init(void) { __builtin_trap(); }"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    path.chmod(0o755)


CHECKS: dict[str, Callable[[Checker], str]] = {
    "data": lambda checker: checker.run("data", SPLIT),
    # What was trained is compared in the image that holds no torch.
    "train": lambda checker: checker.run("train", TRAIN) + checker.run("data", COMPARE),
    "export": lambda checker: checker.run("export", EXPORT) + checker.run("export", MEASURE),
    "model-server": check_model_server,
    "chat": lambda checker: checker.serve("chat", LOOK),
}


def make_inputs(folder: Path) -> None:
    """The demo's data and a tiny base model, writable for the images' user."""
    from pipelines.resolve.tiny_base import TinyBaseConfig, tiny_base

    config = TinyBaseConfig(vocab_size=512, num_hidden_layers=1, max_steps=3, window=32)
    tiny_base(folder / "made", config).rename(folder / "base")
    (folder / "demo.jsonl").write_bytes((RECIPES / "data" / "demo.jsonl").read_bytes())
    # Whoever runs this need not be root: the images' user is another one, so everybody may write.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def main() -> None:
    """Check them all, and print what each said last, its seconds and its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", help="docker or podman; default: the first that answers")
    given = parser.parse_args()
    failed = []
    try:
        checker_engine = find_engine(given.engine, ("docker", "podman"))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            checker = Checker(checker_engine, Path(name))
            make_inputs(checker.folder)
            for image, check in CHECKS.items():
                started = time.monotonic()
                try:
                    last = check(checker).strip().splitlines()[-1]
                except LorryError as error:
                    failed.append(image)
                    print(f"{image:<14}FAILED\n{error}", flush=True)
                    continue
                size = checker.size(image) / 1e6
                print(f"{image:<14}{time.monotonic() - started:6.1f} s {size:8.0f} MB  {last}", flush=True)
    except LorryError as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed")


if __name__ == "__main__":
    main()
