"""The demo's figures, measured on the real thing; prints a table and exits 1 where a figure falls short.

    python tests/benchmarks/demo.py [--workdir .lorry-bench]

It runs ``lorry demo --no-serve`` in a work folder of its own, made anew, serves the model over HTTP, and asks what no
training row asks; the untuned base is asked the same at the same quantization.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from llama_cpp import Llama

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.artifacts.contracts import BaseModelRef, ModelManifest, Row
from components.artifacts.rows import read_rows
from components.export_gguf.convert import convert, merge, quantize
from components.gguf.model import GgufModel
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.runtime.cores import usable_cores
from pipelines.local.workdir import RunResult, Workdir
from tests.benchmarks.questions import Asked
from tests.conftest import run_lorry

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench"), help="removed and made anew")
    options = parser.parse_args()
    shutil.rmtree(options.workdir, ignore_errors=True)
    workdir = Workdir(options.workdir.absolute())
    minutes = timed_demo(workdir) / 60
    seconds_again = timed_demo(workdir)
    result = workdir.latest_result()
    assert result is not None
    base = manifest_of(result).base_model
    tokens = tokens_alike(result, base)
    most = 10 if usable_cores() < 4 else 6
    tuned = Asked(result.model)
    figures = [
        Figure("demo, installed, minutes", f"{minutes:.1f}", f"at most {most}", minutes <= most),
        Figure("the same again, seconds", f"{seconds_again:.1f}", "at most 15", seconds_again <= 15),
        *validation_loss(result),
        *questions(tuned, Asked(untuned(base, manifest_of(result), workdir.root / "untuned"))),
        *quantized(result),
        f16_agreement(result, base, workdir.root / "f16"),
        Figure(
            "rows whose prompt tokens equal the tokenizer's",
            f"{tokens[0]} of {tokens[1]}",
            "all",
            tokens[0] == tokens[1],
        ),
    ]
    print(f"\n{usable_cores()} cores, {time.strftime('%Y-%m-%d')}\n")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        mark = "ok" if figure.good else "SHORT"
        print(f"{figure.name:<{width}}  {figure.value:<34}  {figure.promised:<26}  {mark}")
    print()
    for turns in tuned.chats:
        print(*(f"> {question}\n{answer}" for question, answer in turns), sep="\n")
    return 0 if all(figure.good for figure in figures) else 1


def manifest_of(result: RunResult) -> ModelManifest:
    """What the run says of its model."""
    return ModelManifest.model_validate_json((result.model.parent / "model.json").read_bytes())


def timed_demo(workdir: Workdir) -> float:
    """Seconds of ``lorry demo --no-serve``."""
    started = time.monotonic()
    done = run_lorry("demo", "--no-serve", "--workdir", workdir.root, timeout=3600)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    print(done.stdout[done.stdout.rindex("Run demo") :])
    return time.monotonic() - started


def validation_loss(result: RunResult) -> list[Figure]:
    """The loss of the exported weights against the untuned base's on the same rows, and against the best step's."""
    evaluation, best = result.figures["evaluate"], result.figures["train_lora"]["best_eval_loss"]
    base, tuned = evaluation["base_validation_loss"], evaluation["tuned_validation_loss"]
    change = tuned / base - 1
    value = f"{base:.3f} -> {tuned:.3f} ({100 * change:+.1f} %)"
    return [
        Figure("validation loss of what is exported", value, "at least 25 % lower", change <= -0.25),
        Figure(
            "the same against the best step's",
            f"{100 * (tuned / best - 1):+.2f} %",
            "at most 1 %",
            tuned <= 1.01 * best,
        ),
    ]


def questions(tuned: Asked, untuned: Asked) -> list[Figure]:
    """Facts in words that no training row has, and general knowledge, at temperature 0 over HTTP."""
    facts, n_facts = tuned.right("fact")
    facts_before, _ = untuned.right("fact")
    general, n_general = tuned.right("general")
    general_before, _ = untuned.right("general")
    return [
        Figure("facts, served file", f"{facts} of {n_facts}", "at least 70 %", facts >= 0.7 * n_facts),
        Figure("facts, untuned base", f"{facts_before} of {n_facts}", "under 5 %", facts_before < 0.05 * n_facts),
        Figure("general questions, served file", f"{general} of {n_general}", "at least 27", general >= 27),
        Figure(
            "general questions, untuned base", f"{general_before} of {n_general}", "all", general_before == n_general
        ),
    ]


def untuned(base: BaseModelRef, manifest: ModelManifest, folder: Path) -> Path:
    """The base alone, at the quantization of the demo's model."""
    folder.mkdir(exist_ok=True)
    merge(base, None, folder / "merged")
    convert(folder / "merged", folder / "f16.gguf")
    path = folder / "untuned.gguf"
    quantize(folder / "f16.gguf", path, manifest.quantization)
    return path


def quantized(result: RunResult) -> list[Figure]:
    """The served file against f16 on the validation rows."""
    gguf = result.figures["evaluate_gguf"]
    more, same = gguf["perplexity_increase"], gguf["same_top_token"]
    kind = manifest_of(result).quantization
    return [
        Figure(f"perplexity, {kind} against f16", f"{100 * more:+.2f} %", "at most +3 %", more <= 0.03),
        Figure(
            f"same top token, {kind} as f16",
            f"{100 * same:.1f} % of {gguf['measured_tokens']:.0f}",
            "at least 90 %",
            same >= 0.9,
        ),
    ]


def f16_agreement(result: RunResult, base: BaseModelRef, folder: Path) -> Figure:
    """Share of positions at which the f16 GGUF and the merged model have the same top token, teacher-forced."""
    folder.mkdir(exist_ok=True)
    merge(base, str(result.adapter), folder / "merged")
    convert(folder / "merged", folder / "f16.gguf")
    merged = load_weights(
        BaseModelRef(address=str(folder / "merged"), revision=folder_revision(folder / "merged"), weight_bytes=0),
        torch.float32,
    ).eval()
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, base.address)
    served = Llama(str(folder / "f16.gguf"), n_ctx=1024, logits_all=True, verbose=False, chat_format="chatml")
    split = json.loads((result.output("split_data", "report").path.parent / "executor_output.json").read_text())
    train = next(iter(split["artifacts"]["train"]["artifacts"]))["uri"]
    same, n = 0, 0
    for row in read_rows(train)[:60]:
        ids = sequences_of(tokenizer, template, row)[0].input_ids
        with torch.no_grad():
            expected = merged(input_ids=torch.tensor([ids])).logits[0].argmax(-1).numpy()
        served.reset()
        served.eval(ids)
        same += int((np.argmax(served.scores[: len(ids)], axis=-1) == expected).sum())
        n += len(ids)
    served.close()
    enough = n >= N_POSITIONS and same / n >= 0.99
    return Figure(
        "f16 GGUF, same top token as merged", f"{100 * same / n:.2f} % of {n}", "99 % of at least 2000", enough
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
