"""Training SmolLM2-135M on a CPU: Lorry, Lorry the plain way, and stock TRL, on the demo's rows packed to 512 tokens.

    python tests/benchmarks/train_cpu.py [--steps 12]

The plain way is Lorry's trainer without what makes it quick on a CPU: products by MKL, peft's own LoRA layers, TRL's
loss. Stock is TRL's SFTTrainer at its defaults, with and without gradient checkpointing, in float32, whose packed rows
are kept apart by a dense mask. All take the same rows in the same order and the same LoRA. The first two steps warm up
and are not timed. Prints a table; exits 1 where Lorry is less than 1.5 times as quick as the plain way, or its losses
differ by more than 0.1 %.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows
from components.modeling import cpu_linear
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import Example
from components.split_data.config import SplitConfig
from components.train_lora import run as run_module
from components.train_lora.attention import choose_attention, use_attention
from components.train_lora.config import TrainConfig
from components.train_lora.device import choose_device
from components.train_lora.run import Run
from components.train_lora.settings import to_peft
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.resolve.resolved_recipe import resolve
from tests.conftest import split_data

PROMISED, APART = 1.5, 0.001
WARM_UP_STEPS = 2


@dataclass
class Watch(TrainerCallback):  # type: ignore[misc]
    """Tokens and seconds of the steps after the warm-up, and the loss of each step."""

    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    _begun: float = 0.0
    _tokens: int = 0

    def attach(self, trainer: SFTTrainer) -> None:
        """Count what ``trainer`` takes in, from its next step on."""
        prepare = trainer._prepare_inputs

        def prepared(inputs: Any) -> Any:
            mask = inputs.get("attention_mask")
            self._tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            return prepare(inputs)

        trainer._prepare_inputs = prepared
        trainer.add_callback(self)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun, self._tokens = time.monotonic(), 0

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step > WARM_UP_STEPS:
            self.seconds += time.monotonic() - self._begun
            self.tokens += self._tokens

    def on_log(self, _: Any, __: Any, ___: Any, logs: dict[str, float], **____: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Job:
    """What all of them train."""

    config: TrainConfig
    base: BaseModelRef
    rows: list[Example]
    folder: Path

    def ours(self, name: str) -> Watch:
        """Lorry's trainer, without its validations."""
        folder = self.folder / name
        folder.mkdir()
        job = Run(
            self.config, self.base, choose_device(self.config, self.base), load_tokenizer(self.base), folder,
            self.rows, self.rows[:1],
        )  # fmt: skip
        watch = Watch()
        watch.attach(job.trainer)
        job.trainer.args.eval_on_start = False
        job.train()
        return watch

    def plain(self) -> Watch:
        """Lorry's trainer without what makes it quick on a CPU."""
        quick: tuple[Callable[..., bool], ...] = (cpu_linear.is_faster_here, run_module.gives_chosen_logits)
        cpu_linear.is_faster_here = run_module.is_faster_here = lambda: False
        run_module.gives_chosen_logits = lambda _: False
        try:
            return self.ours("plain")
        finally:
            cpu_linear.is_faster_here = run_module.is_faster_here = quick[0]
            run_module.gives_chosen_logits = quick[1]

    def stock(self, *, gradient_checkpointing: bool) -> Watch:
        """TRL's own trainer."""
        set_seed(self.config.seed)
        quick = cpu_linear.is_faster_here
        cpu_linear.is_faster_here = lambda: False
        model = load_weights(self.base, torch.float32)
        cpu_linear.is_faster_here = quick
        use_attention(model, "sdpa")
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=str(self.folder / "stock"), max_length=self.config.max_length, packing=True, bf16=False,
                per_device_train_batch_size=1, max_steps=self.config.max_steps, logging_steps=1,
                learning_rate=self.config.learning_rate, warmup_steps=self.config.warmup_steps,
                seed=self.config.seed, data_seed=self.config.seed, use_cpu=True, report_to="none",
                save_strategy="no", disable_tqdm=True, gradient_checkpointing=gradient_checkpointing,
            ),
            train_dataset=Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in self.rows]),
            processing_class=load_tokenizer(self.base),
            peft_config=to_peft(self.config),
        )  # fmt: skip
        watch = Watch()
        watch.attach(trainer)
        trainer.train()
        return watch


def make_job(folder: Path, steps: int) -> Job:
    """The demo's base and training rows."""
    recipe = load_recipe(RECIPES / "demo.yaml")
    base = resolve(recipe, folder / "work", print).base_model
    split = split_data(folder / "rows", SplitConfig.model_validate(recipe.split.model_dump()))
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, base.address)
    rows = [sequences_of(tokenizer, template, row)[0] for row in read_rows(split.outputs.train)]
    changes = {"max_steps": steps, "eval_steps": 10_000, "save_steps": 10_000, "save_minutes": 1_000}
    config = recipe.train.model_copy(update={**changes, "lora_rank": 16, "max_length": 512, "warmup_steps": 2})
    return Job(config, base, rows, folder)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    warnings.simplefilter("ignore")
    disable_progress_bars()
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        job = make_job(Path(name), steps)
        attention = choose_attention(load_weights(job.base, torch.float32)).name
        seen = {
            "Lorry": job.ours("quick"),
            "Lorry, the plain way": job.plain(),
            "TRL": job.stock(gradient_checkpointing=True),
            "TRL, no gradient checkpointing": job.stock(gradient_checkpointing=False),
        }
    ours, plain = seen["Lorry"], seen["Lorry, the plain way"]
    title = f"{torch.get_num_threads()} threads, {steps} steps, attention of Lorry's: {attention}"
    table = Table(title=title, title_justify="left")
    for heading in ("trainer", "tokens", "seconds", "tokens/s", "Lorry against it", "loss of the last step"):
        table.add_column(heading)
    for who, watch in seen.items():
        table.add_row(
            who, str(watch.tokens), f"{watch.seconds:.1f}", f"{watch.rate:.0f}", f"{ours.rate / watch.rate:.2f}",
            f"{watch.losses[-1]:.5f}",
        )  # fmt: skip
    Console(width=120).print(table)
    apart = max(abs(a / b - 1) for a, b in zip(ours.losses, plain.losses, strict=True))
    ratio = ours.rate / plain.rate
    print(f"{ratio:.2f} times the plain way (promised {PROMISED}); losses at most {100 * apart:.4f} % apart (0.1 %)")
    return 0 if ratio >= PROMISED and apart <= APART else 1


if __name__ == "__main__":
    sys.exit(main())
