"""Training on a GPU, beside stock TRL in the same run: tokens a second, peak memory, share of the peak arithmetic.

    python tests/benchmarks/train_gpu.py [--steps 20] [--shape 1b]

A Llama shape of 1.24 billion parameters with random weights, rows packed to 4,096 tokens, one sequence a step: LoRA in
the type that the device computes best, and QLoRA in nf4. TRL's SFTTrainer gets the same rows, packing and LoRA, and is
at its defaults elsewhere. ``--shape tiny`` runs the same program on a small shape, on a CPU too. Arithmetic is 4
operations a parameter and token: forward, and backward through frozen weights. Prints a table; a person judges it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.artifacts.contracts import BaseModelRef
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.token_loss import Example
from components.train_lora.config import TrainConfig
from components.train_lora.device import choose_device
from components.train_lora.run import Run
from components.train_lora.settings import to_peft
from pipelines.resolve.tiny_base import TinyBaseConfig, tiny_base
from tests.benchmarks.train_lora import Stopwatch, make_examples

SHAPES = {
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256, "max_position_embeddings": 8192,
        "tie_word_embeddings": True, "initializer_range": 0.02,
    },
    "tiny": {"max_position_embeddings": 8192},
}  # fmt: skip
MAX_LENGTH = 4096
# Operations a second with 16-bit inputs, dense, as the makers' data sheets say.
PEAK = {"T4": 65e12, "A100": 312e12, "H100": 989e12, "H200": 989e12}


@dataclass(frozen=True)
class Seen:
    """What one trainer did."""

    tokens: int
    seconds: float
    peak_bytes: int


def make_base(folder: Path, shape: str) -> BaseModelRef:
    """The demo's tokenizer on the shape, with random weights in bfloat16."""
    made = tiny_base(folder, TinyBaseConfig(max_steps=1))
    config = LlamaConfig.from_pretrained(made)
    for name, value in SHAPES[shape].items():
        setattr(config, name, value)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(made)
    return BaseModelRef(address=str(made), revision=folder_revision(made), weight_bytes=0)


def measured(train: Callable[[Stopwatch], int]) -> Seen:
    """Run ``train``, which gives the tokens that it computed."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    watch = Stopwatch()
    tokens = train(watch)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Seen(tokens, watch.seconds, peak)


def ours(config: TrainConfig, base: BaseModelRef, folder: Path, rows: list[Example]) -> Callable[[Stopwatch], int]:
    """Lorry's trainer."""

    def train(watch: Stopwatch) -> int:
        run_dir = Path(tempfile.mkdtemp(dir=folder))
        run = Run(config, base, choose_device(config, base), load_tokenizer(base), run_dir, rows, rows[:2])
        run.trainer.add_callback(watch)
        run.trainer.args.eval_on_start = False
        run.train()
        return int(run.trainer._total_train_tokens)

    return train


def stock(
    config: TrainConfig, base: BaseModelRef, folder: Path, rows: list[Example], quantization: str | None
) -> Callable[[Stopwatch], int]:
    """TRL's trainer at its defaults."""

    def train(watch: Stopwatch) -> int:
        device = choose_device(config.model_copy(update={"base_quantization": quantization or "none"}), base)
        trainer = SFTTrainer(
            model=load_weights(base, device.dtype, device.quantization),
            args=SFTConfig(
                output_dir=str(folder / "stock"), max_length=MAX_LENGTH, packing=True, per_device_train_batch_size=1,
                max_steps=config.max_steps, report_to="none", save_strategy="no", disable_tqdm=True,
                logging_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=device.precision == "bfloat16",
                fp16=device.precision == "float16",
            ),
            train_dataset=Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in rows]),
            processing_class=load_tokenizer(base),
            peft_config=to_peft(config),
            callbacks=[watch],
        )  # fmt: skip
        trainer.train()
        return int(trainer._total_train_tokens)

    return train


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    options = parser.parse_args()
    if options.shape == "1b" and not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU; --shape tiny runs the program on a CPU")
    warnings.simplefilter("ignore")
    disable_progress_bars()
    logging.disable(logging.WARNING)
    seen: dict[str, Seen] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base", options.shape)
        rows = make_examples(base, options.steps * 14, 0)
        config = TrainConfig(
            max_steps=options.steps, per_device_train_batch_size=1, gradient_accumulation_steps=1, packing=True,
            max_length=MAX_LENGTH, eval_steps=10_000, save_steps=10_000, save_minutes=1_000, warmup_steps=2,
            gradient_checkpointing=True, base_quantization="none",
        )  # fmt: skip
        for kind in (None, "nf4"):
            of = config.model_copy(update={"base_quantization": kind or "none"})
            method = "QLoRA, nf4" if kind else "LoRA"
            seen[f"Lorry, {method}"] = measured(ours(of, base, folder, rows))
            seen[f"TRL, {method}"] = measured(stock(of, base, folder, rows, kind))
        n_parameters = sum(p.numel() for p in load_weights(base, "auto").parameters())
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    peak = next((value for part, value in PEAK.items() if part in hardware), None)
    table = Table(title=f"{n_parameters / 1e9:.2f} billion parameters, packed {MAX_LENGTH}, on {hardware}")
    for heading in ("trainer", "tokens/s", "peak memory", "share of peak arithmetic"):
        table.add_column(heading)
    for who, one in seen.items():
        rate = one.tokens / one.seconds
        share = f"{100 * rate * 4 * n_parameters / peak:.1f} %" if peak else "unknown peak"
        table.add_row(who, f"{rate:.0f}", f"{one.peak_bytes / 1e9:.1f} GB", share)
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
