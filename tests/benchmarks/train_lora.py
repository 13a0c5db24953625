"""Training beside stock TRL: the same rows in the same steps on the same machine, in one run.

    python tests/benchmarks/train_lora.py [--steps 16] [--seed 0] [--bf16-steps 0]

Both train a LoRA on a Llama shape of 8 layers of 512 with random weights, on conversations with lognormal lengths (mean
350, 95th percentile 1,000 tokens), 8 rows an optimizer step, drawn in the same order. TRL's SFTTrainer is at its
defaults but for learning rate and LoRA settings (Lorry's), seed, and labels (the assistant's words), which both are
given; and but for bfloat16, which many CPUs only emulate: ``--bf16-steps`` trains some steps with it too. Seconds are
from the begin of the first step to the end of the last. Prints a table; exits 1 where a line falls short.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import Example, token_loss
from components.train_lora.config import TrainConfig
from components.train_lora.device import Device, choose_device
from components.train_lora.run import Run
from components.train_lora.settings import to_peft
from pipelines.resolve.tiny_base import TinyBaseConfig, tiny_base
from tests.benchmarks.conversations import Writer

ROWS_A_STEP = 8
MAX_LENGTH = 2048
N_VALIDATION = 32
PROMISED_RATIO, PROMISED_LOSS = 1.5, 0.01


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Seconds from the begin of the first step to the end of the last."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.seconds = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun = self.begun or time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.begun is not None
        self.seconds = time.monotonic() - self.begun


def make_base(folder: Path) -> BaseModelRef:
    """The demo's tokenizer and chat template on a larger Llama shape, with random weights."""
    made = tiny_base(folder, TinyBaseConfig(max_steps=1))
    config = LlamaConfig.from_pretrained(made)
    for name, value in {
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 4096, "initializer_range": 0.02,
    }.items():  # fmt: skip
        setattr(config, name, value)
    set_seed(0)
    LlamaForCausalLM(config).save_pretrained(made)
    return BaseModelRef(address=str(made), revision=folder_revision(made), weight_bytes=0)


def make_examples(base: BaseModelRef, n_rows: int, seed: int) -> list[Example]:
    """Conversations of words that are one token each."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, base.address)
    words = [word[1:] for word in tokenizer.get_vocab() if word.startswith("Ġ") and word[1:].isalpha()]
    writer = Writer(seed)
    writer.words = writer.words.copy()
    writer.words[:] = [words[i % len(words)] for i in range(len(writer.words))]
    examples = []
    for _ in range(n_rows):
        turns = writer.conversation()
        roles = ("user", "assistant")
        messages = [Message(role=roles[i % 2], content=" ".join(turn)) for i, turn in enumerate(turns)]
        examples.append(sequences_of(tokenizer, template, Row(id="", messages=messages))[0].cut(MAX_LENGTH))
    return [example for example in examples if example.n_supervised]


def train_ours(
    config: TrainConfig, base: BaseModelRef, device: Device, folder: Path, rows: list[Example], held: list[Example]
) -> tuple[float, float, int]:
    """Seconds, validation loss, supervised tokens."""
    run_dir = folder / "ours"
    run_dir.mkdir()
    run = Run(config, base, device, load_tokenizer(base), run_dir, rows, held)
    watch = Stopwatch()
    run.trainer.add_callback(watch)
    run.trainer.args.eval_on_start = False
    counted = count_supervised(run.trainer)
    run.train()
    return watch.seconds, run.history.eval_losses()[run.trainer.state.max_steps], sum(counted)


def train_stock(
    config: TrainConfig, base: BaseModelRef, folder: Path, rows: list[Example], held: list[Example], **changes: Any
) -> tuple[float, float, int]:
    """The same with SFTTrainer, its defaults changed by ``changes``."""
    set_seed(config.seed)
    watch = Stopwatch()
    tokenizer = load_tokenizer(base)
    settings = {
        "max_length": MAX_LENGTH, "per_device_train_batch_size": ROWS_A_STEP, "max_steps": config.max_steps,
        "learning_rate": config.learning_rate, "warmup_steps": config.warmup_steps, "seed": config.seed,
        "data_seed": config.seed, "lr_scheduler_type": config.lr_scheduler_type,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no",
    }  # fmt: skip
    trainer = SFTTrainer(
        model=load_weights(base, torch.float32),
        args=SFTConfig(output_dir=str(folder / "stock"), **{**settings, **changes}),
        train_dataset=Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in rows]),
        processing_class=tokenizer,
        peft_config=to_peft(config),
        callbacks=[watch],
    )
    counted = count_supervised(trainer)
    trainer.train()
    loss = token_loss(trainer.model, held, batch_size=8, pad_token_id=tokenizer.pad_token_id).loss
    return watch.seconds, loss, sum(counted)


def count_supervised(trainer: SFTTrainer) -> list[int]:
    """Count, as it trains, the tokens that a trainer's labels supervise."""
    counted: list[int] = []
    prepare = trainer._prepare_inputs

    def prepared(inputs: Any) -> Any:
        # A row's first label has nothing that it is predicted from: stock's padded rows shift it away.
        counted.append(int((inputs["labels"][:, 1:] != -100).sum()))
        return prepare(inputs)

    trainer._prepare_inputs = prepared
    return counted


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16-steps", type=int, default=0, help="minutes each where the CPU has no bfloat16")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    disable_progress_bars()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base")
        examples = make_examples(base, options.steps * ROWS_A_STEP + N_VALIDATION, options.seed)
        rows, held = examples[N_VALIDATION:], examples[:N_VALIDATION]
        config = TrainConfig(
            learning_rate=1e-2, max_steps=options.steps, per_device_train_batch_size=ROWS_A_STEP,
            gradient_accumulation_steps=1, max_length=MAX_LENGTH, eval_steps=10_000, save_steps=10_000,
            save_minutes=1_000, seed=options.seed, warmup_steps=2,
        )  # fmt: skip
        device = choose_device(config, base)
        seen = {"Lorry": train_ours(config, base, device, folder, rows, held)}
        seen["TRL"] = train_stock(config, base, folder, rows, held, bf16=False)
        seen["TRL, no gradient checkpointing"] = train_stock(
            config, base, folder, rows, held, bf16=False, gradient_checkpointing=False
        )
        if options.bf16_steps:
            shorter = config.model_copy(update={"max_steps": options.bf16_steps})
            seen["TRL in bfloat16, fewer steps"] = train_stock(shorter, base, folder, rows, held)
    lengths = sorted(len(example.input_ids) for example in rows)
    table = Table(title=f"{options.steps} steps of {ROWS_A_STEP} rows, {sum(lengths) // len(lengths)} tokens a row")
    for heading in (
        "trainer",
        "seconds",
        "supervised tokens",
        "supervised tokens/s",
        "against Lorry",
        "validation loss",
    ):
        table.add_column(heading)
    rate = {who: tokens / seconds for who, (seconds, _, tokens) in seen.items()}
    for who, (seconds, loss, tokens) in seen.items():
        ratio = f"{rate['Lorry'] / rate[who]:.2f}"
        table.add_row(who, f"{seconds:.1f}", str(tokens), f"{rate[who]:.0f}", ratio, f"{loss:.4f}")
    console = Console(width=120)
    console.print(table)
    stock = max(("TRL", "TRL, no gradient checkpointing"), key=rate.__getitem__)
    ratio = rate["Lorry"] / rate[stock]
    apart = abs(seen["Lorry"][1] / seen[stock][1] - 1)
    as_promised = ratio >= PROMISED_RATIO and apart <= PROMISED_LOSS and seen["Lorry"][2] == seen[stock][2]
    console.print(
        f"{ratio:.2f} times the supervised tokens a second of {stock} (promised {PROMISED_RATIO}), validation loss "
        f"{100 * apart:.3f} % apart (promised at most {100 * PROMISED_LOSS:.0f} %)"
    )
    return 0 if as_promised else 1


if __name__ == "__main__":
    sys.exit(main())
