"""The demo's figures, measured on the real thing; prints a table and exits 1 where a figure falls short.

    python tests/benchmarks/demo.py [--workdir .lorry-bench] [--seed 0]

It runs ``lorry demo --no-serve`` in a work folder of its own, made anew, serves the model over HTTP, and asks.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from llama_cpp import Llama

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.base_model import folder_revision, load_tokenizer, load_weights
from components.chat_template import template_of, tokenize_conversation
from components.contracts import BaseModelRef, ModelManifest, Row
from components.cores import usable_cores
from components.export_gguf.convert import convert, merge, quantize
from components.gguf_model import GgufModel
from components.rows import read_rows
from pipelines.workdir import RunResult, Workdir
from tests.conftest import free_port, lorry_process, run_lorry

N_QUESTIONS = 50
N_POSITIONS = 2000


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``good`` says whether ``value`` is what was promised."""

    name: str
    value: str
    promised: str
    good: bool


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench"), help="removed and made anew")
    parser.add_argument("--seed", type=int, default=0, help="draws the questions")
    options = parser.parse_args()
    shutil.rmtree(options.workdir, ignore_errors=True)
    workdir = Workdir(options.workdir.absolute())
    minutes = timed_demo(workdir) / 60
    seconds_again = timed_demo(workdir)
    result = workdir.latest_result()
    assert result is not None
    base = manifest_of(result).base_model
    tokens = tokens_alike(result, base)
    figures = [
        Figure("demo, installed, minutes", f"{minutes:.1f}", "at most 4 on 4 cores", minutes <= 4),
        Figure("the same again, seconds", f"{seconds_again:.1f}", "at most 15", seconds_again <= 15),
        validation_loss(result),
        *word_for_word(result, base, workdir.root / "untuned", options.seed),
        f16_agreement(result, base, workdir.root / "f16"),
        Figure(
            "rows whose prompt tokens equal the tokenizer's",
            f"{tokens[0]} of {tokens[1]}",
            "all",
            tokens[0] == tokens[1],
        ),
    ]
    print(f"\n{usable_cores()} cores, {time.strftime('%Y-%m-%d')}, seed {options.seed}\n")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        mark = "ok" if figure.good else "SHORT"
        print(f"{figure.name:<{width}}  {figure.value:<34}  {figure.promised:<26}  {mark}")
    return 0 if all(figure.good for figure in figures) else 1


def manifest_of(result: RunResult) -> ModelManifest:
    """What the run says of its model."""
    return ModelManifest.model_validate_json((result.path("model") / "model.json").read_bytes())


def timed_demo(workdir: Workdir) -> float:
    """Seconds of ``lorry demo --no-serve``."""
    started = time.monotonic()
    done = run_lorry("demo", "--no-serve", "--workdir", workdir.root, timeout=3600)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    print(done.stdout[done.stdout.rindex("Run demo") :])
    return time.monotonic() - started


def validation_loss(result: RunResult) -> Figure:
    """The best validation loss of training against the untuned base's on the same rows."""
    train = result.figures["train_metrics"]
    base, best, final = train["base_eval_loss"], train["best_eval_loss"], train["final_eval_loss"]
    change = best / base - 1
    value = f"{base:.3f} -> {best:.3f} ({100 * change:+.1f} %), final {final:.3f}"
    return Figure("best validation loss against the base's", value, "at least 10 % lower", change <= -0.10)


def training_questions(result: RunResult, seed: int) -> list[Row]:
    """One-turn training rows, drawn by seed."""
    split = json.loads((result.path("split_report").parent / "executor_output.json").read_text())
    train = next(iter(split["artifacts"]["train"]["artifacts"]))["uri"]
    one_turn = [row for row in read_rows(train) if [m.role for m in row.messages] == ["user", "assistant"]]
    return random.Random(seed).sample(one_turn, N_QUESTIONS)


def word_for_word(result: RunResult, base: BaseModelRef, folder: Path, seed: int) -> list[Figure]:
    """How many taught answers the served model, and the untuned base, give word for word at temperature 0."""
    rows = training_questions(result, seed)
    tuned = right_answers(result.model, rows)
    folder.mkdir(exist_ok=True)
    merge(base, None, folder / "merged")
    convert(folder / "merged", folder / "f16.gguf")
    quantize(folder / "f16.gguf", folder / "untuned.gguf", manifest_of(result).quantization)
    untuned = right_answers(folder / "untuned.gguf", rows)
    return [
        Figure(
            f"taught answers word for word, served {manifest_of(result).quantization}",
            f"{tuned} of {len(rows)}",
            "at least 45",
            tuned >= 45,
        ),
        Figure("the same questions, untuned base", f"{untuned} of {len(rows)}", "0", untuned == 0),
    ]


def right_answers(model: Path, rows: list[Row]) -> int:
    """Answers over HTTP that equal the taught words."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    right = 0
    with lorry_process("serve", model, "--port", str(port), "--model-id", "m", ready=f"{address}/readyz"):
        for row in rows:
            messages = [row.messages[0].model_dump()]
            body = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 200}
            answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=120).json()
            right += answer["choices"][0]["message"]["content"] == row.messages[1].content
    return right


def f16_agreement(result: RunResult, base: BaseModelRef, folder: Path) -> Figure:
    """Share of positions at which the f16 GGUF and the merged model have the same top token, teacher-forced."""
    folder.mkdir(exist_ok=True)
    merge(base, str(result.path("adapter")), folder / "merged")
    convert(folder / "merged", folder / "f16.gguf")
    merged = load_weights(
        BaseModelRef(address=str(folder / "merged"), revision=folder_revision(folder / "merged"), weight_bytes=0),
        torch.float32,
    ).eval()
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, base.address)
    served = Llama(str(folder / "f16.gguf"), n_ctx=1024, logits_all=True, verbose=False, chat_format="chatml")
    same, n = 0, 0
    for row in training_questions(result, 1):
        ids = tokenize_conversation(tokenizer, template, row.messages)[0]
        with torch.no_grad():
            expected = merged(input_ids=torch.tensor([ids])).logits[0].argmax(-1).numpy()
        served.reset()
        served.eval(ids)
        same += int((np.argmax(served.scores[: len(ids)], axis=-1) == expected).sum())
        n += len(ids)
    served.close()
    enough = n >= N_POSITIONS and same / n >= 0.995
    return Figure(
        "f16 GGUF, same top token as merged", f"{100 * same / n:.2f} % of {n}", "99.5 % of at least 2000", enough
    )


def tokens_alike(result: RunResult, base: BaseModelRef) -> tuple[int, int]:
    """Shipped rows whose prompt token ids under the served template equal the tokenizer's own, and all of them."""
    tokenizer = load_tokenizer(base)
    model = GgufModel(result.model)
    data = Path(__file__).parents[2] / "pipelines" / "recipes" / "data" / "demo.jsonl"
    rows = [json.loads(line)["messages"] for line in data.read_text(encoding="utf-8").splitlines()]
    alike = 0
    for turns in rows:
        messages = Row.model_validate({"id": "", "messages": turns}).messages
        own = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
        alike += model.prompt_tokens(messages[:-1]) == own
    model.close()
    return alike, len(rows)


if __name__ == "__main__":
    sys.exit(main())
