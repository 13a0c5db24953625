"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

Figures = Mapping[str, Mapping[str, float]]


def show(
    console: Console, run: str, figures: Figures, minutes: Mapping[str, float], places: Mapping[str, Path | str]
) -> None:
    """Print what a run measured, by the names of the pipeline's outputs, and where what it made lies."""
    table = Table(title=f"Run {run}", show_header=True)
    for heading in ("step", "time", "figures"):
        table.add_column(heading, overflow="fold")
    for step, said in _in_words(figures).items():
        spent = minutes.get(step, 0.0) * 60
        table.add_row(step, f"{spent:.0f} s" if spent else "reused", said)
    console.print(table)
    for label, place in places.items():
        console.print(f"{label:<20}{place}", markup=False, highlight=False, soft_wrap=True)


def _in_words(figures: Figures) -> dict[str, str]:
    split, train = figures["split_metrics"], figures["train_metrics"]
    evaluation, export, gguf = figures["evaluation_metrics"], figures["export_metrics"], figures["gguf_metrics"]
    return {
        "split_data": (
            f"{split['read']:.0f} rows read: {split['train']:.0f} train, {split['validation']:.0f} validation, "
            f"{split['test']:.0f} test, {split['unused']:.0f} unused, {split['dropped']:.0f} dropped"
        ),
        "train_lora": (
            f"{train['steps']:.0f} steps in {train['minutes']:.1f} minutes; validation loss: base "
            f"{train['base_eval_loss']:.4f}, best {train['best_eval_loss']:.4f} (step {train['best_step']:.0f}), "
            f"final {train['final_eval_loss']:.4f}"
        ),
        "evaluate": "\n".join(_losses(evaluation)),
        "export_gguf": (
            f"{export['size_bytes'] / 1e6:.1f} MB, {100 * export['reduction']:.1f} % smaller than f16 "
            f"({export['f16_size_bytes'] / 1e6:.1f} MB)"
        ),
        "evaluate_gguf": "\n".join(_cost_of_quantization(gguf)),
    }


def _cost_of_quantization(gguf: Mapping[str, float]) -> list[str]:
    lines = [
        f"perplexity {100 * gguf['perplexity_increase']:+.2f} % against f16, KL divergence "
        f"{gguf['kl_divergence']:.4f}, same top token at {100 * gguf['same_top_token']:.1f} % of "
        f"{gguf['measured_tokens']:.0f}"
    ]
    if (seconds := gguf.get("quantized_seconds_per_answer")) is not None:
        lines.append(
            f"{seconds:.2f} s an answer, first token after {gguf['quantized_first_token_seconds']:.2f} s, "
            f"{gguf['quantized_tokens_per_second']:.0f} tokens/s on {gguf['n_threads']:.0f} cores"
        )
    return lines


def _losses(evaluation: Mapping[str, float]) -> list[str]:
    lines = []
    for split in ("validation", "test"):
        if (tuned := evaluation.get(f"tuned_{split}_loss")) is not None:
            base = evaluation[f"base_{split}_loss"]
            lines.append(
                f"{split}: loss {base:.4f} → {tuned:.4f} ({100 * (tuned / base - 1):+.1f} %), perplexity "
                f"{evaluation[f'base_{split}_perplexity']:.1f} → {evaluation[f'tuned_{split}_perplexity']:.1f}"
            )
    if (seconds := evaluation.get("tuned_seconds_per_answer")) is not None:
        lines.append(
            f"{seconds:.2f} s an answer, {evaluation['tuned_tokens_per_second']:.0f} tokens/s before quantization"
        )
    return lines
