"""What a step measured, as lines for a person: the functions that the list of steps names."""

from __future__ import annotations

from collections.abc import Mapping

Figures = Mapping[str, float]


def describe_any(figures: Figures) -> list[str]:
    """Every figure by its name, for a step that has no description of its own."""
    # KFP keeps no order of a step's metrics.
    return [", ".join(f"{name} {value:.4g}" for name, value in sorted(figures.items()))] if figures else []


def describe_split(figures: Figures) -> list[str]:
    """Rows by what became of them."""
    return [
        f"{figures['read']:.0f} rows read: {figures['train']:.0f} train, {figures['validation']:.0f} validation, "
        f"{figures['test']:.0f} test, {figures['unused']:.0f} unused, {figures['dropped']:.0f} dropped"
    ]


def describe_training(figures: Figures) -> list[str]:
    """Steps, minutes and validation losses."""
    return [
        f"{figures['steps']:.0f} steps in {figures['minutes']:.1f} minutes; validation loss: base "
        f"{figures['base_eval_loss']:.4f}, best {figures['best_eval_loss']:.4f} (step {figures['best_step']:.0f}), "
        f"final {figures['final_eval_loss']:.4f}"
    ]


def describe_evaluation(figures: Figures) -> list[str]:
    """Loss and perplexity of base and tuned model on each split that was measured, and the speed of answers."""
    lines = []
    for split in ("validation", "test"):
        if (tuned := figures.get(f"tuned_{split}_loss")) is not None:
            base = figures[f"base_{split}_loss"]
            lines.append(
                f"{split}: loss {base:.4f} → {tuned:.4f} ({100 * (tuned / base - 1):+.1f} %), perplexity "
                f"{figures[f'base_{split}_perplexity']:.1f} → {figures[f'tuned_{split}_perplexity']:.1f}"
            )
    if (seconds := figures.get("tuned_seconds_per_answer")) is not None:
        speed = figures["tuned_tokens_per_second"]
        lines.append(f"{seconds:.2f} s an answer, {speed:.0f} tokens/s before quantization")
    return lines


def describe_export(figures: Figures) -> list[str]:
    """Size of the file beside f16."""
    return [
        f"{figures['size_bytes'] / 1e6:.1f} MB, {100 * figures['reduction']:.1f} % smaller than f16 "
        f"({figures['f16_size_bytes'] / 1e6:.1f} MB)"
    ]


def describe_quantization(figures: Figures) -> list[str]:
    """What quantization costs, and the speed of answers where prompts were answered."""
    lines = [
        f"perplexity {100 * figures['perplexity_increase']:+.2f} % against f16, KL divergence "
        f"{figures['kl_divergence']:.4f}, same top token at {100 * figures['same_top_token']:.1f} % of "
        f"{figures['measured_tokens']:.0f}"
    ]
    if (seconds := figures.get("quantized_seconds_per_answer")) is not None:
        lines.append(
            f"{seconds:.2f} s an answer, first token after {figures['quantized_first_token_seconds']:.2f} s, "
            f"{figures['quantized_tokens_per_second']:.0f} tokens/s on {figures['n_threads']:.0f} cores"
        )
    return lines
