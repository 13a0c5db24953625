"""Measure a quantized file against f16, which is made anew from the adapter and not kept."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows
from components.artifacts.run_record import read_record
from components.errors import DataError
from components.evaluate.config import EvaluateConfig
from components.evaluate.prompts import read_prompts
from components.evaluate_gguf.against_training import compare_with_training
from components.evaluate_gguf.config import EvaluateGgufConfig
from components.evaluate_gguf.generation import TimedAnswer, figures_of, measure_answers
from components.evaluate_gguf.quality import Quality, compare
from components.evaluate_gguf.report import write_report
from components.export_gguf.convert import convert, merge
from components.gguf.file import model_in
from components.gguf.model import GgufModel
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import template_of
from components.modeling.supervision import examples_of
from components.modeling.token_loss import Example
from components.runtime.disk_space import require_export_space
from components.storage.local_files import local_file

log = logging.getLogger(__name__)


def evaluate_gguf(
    config: EvaluateGgufConfig,
    asked: EvaluateConfig,
    base_model: BaseModelRef,
    *,
    adapter_path: str,
    model_path: str,
    validation_path: str,
    report_path: str,
    answers_path: str,
) -> dict[str, float]:
    """Write the HTML report and the answers (JSON); the figures by name. The prompts are those of ``asked``.

    Raises:
        DiskSpaceError: the disk has too little free space for the f16 file.
        ModelError: base, adapter or file does not load.
        DataError: the prompts file cannot be used, or there are no rows.
    """
    revision = asked.prompts_revision
    prompts = read_prompts(local_file(asked.prompts, revision), revision) if asked.prompts else []
    record = read_record(adapter_path)
    examples = _examples(validation_path, config.max_rows, base_model, record.train["max_length"])
    quantized = model_in(Path(model_path))
    work = Path(answers_path + ".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        f16 = f16_of(base_model, adapter_path, work)
        sizes = {"size_bytes": quantized.stat().st_size, "f16_size_bytes": f16.stat().st_size}
        agreement = compare_with_training(base_model, adapter_path, f16, examples)
        quality = measure_quality(f16, quantized, examples)
        answers: list[TimedAnswer] = []
        for name, path in {"f16": f16, "quantized": quantized}.items() if prompts else ():
            answers += measure_answers(
                path, name, prompts, max_new_tokens=asked.max_new_tokens, n_threads=config.n_threads, folder=work
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    compared = {**quality.figures, **agreement.figures}
    figures = {**compared, **sizes, **figures_of("f16", answers), **figures_of("quantized", answers)}
    if answers:
        figures["n_threads"] = answers[-1].n_threads
    write_report(report_path, quantized.name, figures, answers, agreement.answers)
    written = [asdict(answer) | {"tokens_per_second": answer.tokens_per_second} for answer in answers]
    Path(answers_path).write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


def f16_of(base_model: BaseModelRef, adapter_path: str, folder: Path) -> Path:
    """Write base and adapter, merged, as an f16 GGUF file into ``folder``."""
    require_export_space(folder, base_model.to_merge_into.weight_bytes)
    path = folder / "model-F16.gguf"
    merge(base_model, adapter_path, folder / "merged")
    convert(folder / "merged", path)
    shutil.rmtree(folder / "merged")
    log.info("f16 made anew to compare with: %.1f MB", path.stat().st_size / 1e6)
    return path


def measure_quality(f16: Path, quantized: Path, examples: Sequence[Example]) -> Quality:
    """Compare two files on the supervised tokens of ``examples``, on every core of this machine."""
    n_ctx = max(len(example.input_ids) for example in examples)
    reference, other = GgufModel(f16, n_ctx=n_ctx), GgufModel(quantized, n_ctx=n_ctx)
    try:
        quality = compare(reference, other, examples)
    finally:
        reference.close()
        other.close()
    figures = quality.figures
    log.info(
        "perplexity %.4f, f16 %.4f; KL divergence %.5f; same top token at %.2f %% of %d",
        figures["quantized_perplexity"], figures["f16_perplexity"], figures["kl_divergence"],
        100 * figures["same_top_token"], quality.n_tokens,
    )  # fmt: skip
    return quality


def _examples(path: str, max_rows: int, base_model: BaseModelRef, max_length: int) -> list[Example]:
    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    rows = read_rows(path)[:max_rows]
    examples, _ = examples_of(base_model, tokenizer, template, rows, max_length)
    kept = [example for own in examples for example in own]
    if not kept:
        raise DataError(f"{path}: no validation row has a word of the assistant; set split.validation_rows")
    return kept
