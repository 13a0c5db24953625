"""Measure the base and the tuned model on the same rows, and generate answers of both to the same prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.artifacts.contracts import BaseModelRef, RunRecord
from components.artifacts.run_record import read_record
from components.evaluate.config import EvaluateConfig
from components.evaluate.model_pair import ModelPair
from components.evaluate.prompts import read_prompts
from components.evaluate.report import write_report
from components.evaluate.results import GeneratedAnswer, SplitLoss
from components.storage.local_files import local_file


def evaluate(
    config: EvaluateConfig,
    base_model: BaseModelRef,
    *,
    adapter_path: str,
    validation_path: str,
    test_path: str,
    report_path: str,
    samples_path: str,
) -> dict[str, float]:
    """Write the HTML report and the samples (JSON); return the figures by name. Losses are in nats per token.

    Raises:
        ModelError: base model or adapter cannot be loaded.
        DataError: the prompts file cannot be used.
    """
    revision = config.prompts_revision
    prompts = read_prompts(local_file(config.prompts, revision), revision) if config.prompts else []
    record = read_record(adapter_path)
    both = ModelPair(base_model, adapter_path, record)
    paths = {"validation": validation_path, **({"test": test_path} if config.test else {})}
    losses = [
        loss
        for split, path in paths.items()
        if (loss := both.measure(split, path, config.per_device_eval_batch_size)) is not None
    ]
    answers = [
        answer
        for number, prompt in enumerate(prompts, start=1)
        for answer in both.answer(prompt, config.max_new_tokens, f"{number}/{len(prompts)}")
    ]
    write_report(report_path, record, losses, answers)
    samples = [asdict(answer) | {"tokens_per_second": answer.tokens_per_second} for answer in answers]
    Path(samples_path).write_text(json.dumps(samples, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return _figures(losses, answers, record)


def _figures(losses: Sequence[SplitLoss], answers: Sequence[GeneratedAnswer], record: RunRecord) -> dict[str, float]:
    figures: dict[str, float] = {}
    for loss in losses:
        for name, value in (("base", loss.base), ("tuned", loss.tuned)):
            figures[f"{name}_{loss.split}_loss"] = value.loss
            figures[f"{name}_{loss.split}_perplexity"] = value.perplexity
    if record.best_eval_loss is not None:
        figures["best_validation_loss"] = record.best_eval_loss
    for name in ("base", "tuned"):
        own = [answer for answer in answers if answer.model == name]
        if own:
            figures[f"{name}_seconds_per_answer"] = sum(answer.seconds for answer in own) / len(own)
            figures[f"{name}_tokens_per_second"] = sum(a.n_tokens for a in own) / sum(a.seconds for a in own)
    return figures
