"""Train a LoRA adapter on the assistant's words, and write it with its history and its record."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base_model import load_tokenizer, load_weights
from components.chat_template import fingerprint, template_of, tokenize_conversation
from components.contracts import HISTORY_NAME, RUN_RECORD_NAME, BaseModelRef, Row, RunRecord
from components.errors import DataError, InterruptedTrainingError, LorryError
from components.rows import data_fingerprint, read_rows
from components.token_loss import Example
from components.train_lora import checkpoints
from components.train_lora.config import WATCHING, TrainConfig
from components.train_lora.history import History

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase
    from trl import SFTConfig

    from components.train_lora.trainer import LoraTrainer, Progress, StopOnSigterm

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def train(
    config: TrainConfig,
    base_model: BaseModelRef,
    *,
    code: str,
    checkpoint_root: str,
    train_path: str,
    validation_path: str,
    adapter_path: str,
) -> RunRecord:
    """Train, resuming from the newest valid checkpoint of the very same run, and write the adapter folder.

    The folder holds PEFT safetensors, the tokenizer with its chat template, ``history.jsonl`` and ``run.json``.

    Raises:
        ModelError: the base model cannot be loaded or has no chat template.
        DataError: no row has a word of the assistant within ``max_length``.
        BusyError: another process trains this run.
        InterruptedTrainingError: SIGTERM came; a checkpoint is written.
    """
    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    rows = read_rows(train_path)
    examples = _examples(rows, tokenizer, template, config.max_length)
    validation_rows = read_rows(validation_path)
    validation = _examples(validation_rows, tokenizer, template, config.max_length)
    key = checkpoints.run_key(
        {
            "train": config.model_dump(exclude=set(WATCHING)),
            "base_model": base_model.revision,
            "precision": _precision()[0],
            "data": data_fingerprint(rows),
            "validation": data_fingerprint(validation_rows),
            "template": fingerprint(template),
            "code": code,
        }
    )
    run_dir = Path(checkpoint_root) / key
    with checkpoints.sole_writer(run_dir):
        run = _Run(config, base_model, tokenizer, run_dir, examples, validation)
        run.go()
        adapter_step = run.write_adapter(Path(adapter_path))
        record = RunRecord(
            run_key=key,
            base_model=base_model,
            train=config.model_dump(),
            data_fingerprint=data_fingerprint(rows),
            code_fingerprint=code,
            template_fingerprint=fingerprint(template),
            versions={name: version(name) for name in LIBRARIES},
            seed=config.seed,
            train_rows=len(rows),
            skipped_rows=len(rows) - len(examples),
            adapter_step=adapter_step,
            checkpoint=config.checkpoint,
            **run.figures(),
        )
        (Path(adapter_path) / RUN_RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n")
    return record


class _Run:
    """One invocation: the trainer, what it resumes from, and what it measured."""

    def __init__(
        self,
        config: TrainConfig,
        base_model: BaseModelRef,
        tokenizer: PreTrainedTokenizerBase,
        run_dir: Path,
        examples: Sequence[Example],
        validation: Sequence[Example],
    ) -> None:
        from transformers import set_seed

        self.config = config
        self.run_dir = run_dir
        self.resumed_from = checkpoints.newest_valid(run_dir)
        self.history = History(run_dir / HISTORY_NAME)
        self.history.cut(checkpoints.step_of(self.resumed_from) if self.resumed_from else None)
        self.precision, dtype = _precision()
        # LoRA's first weights are random: the seed must be set before they are drawn.
        set_seed(config.seed)
        model = load_weights(base_model, dtype)
        self.trainer, self.progress, self.stop = _build_trainer(
            config,
            self.precision,
            model,
            tokenizer,
            run_dir,
            self.history,
            examples,
            validation,
        )
        # The checkpoint that is resumed from was measured when it was written.
        self.trainer.args.eval_on_start = self.resumed_from is None

    def go(self) -> None:
        """Train to the end.

        Raises:
            InterruptedTrainingError: SIGTERM came first.
        """
        if self.resumed_from:
            log.info("resuming from %s", self.resumed_from)
            if self._take_finished(self.resumed_from):
                return
        with self.stop.listening():
            self.trainer.train(resume_from_checkpoint=str(self.resumed_from) if self.resumed_from else None)
        if self.stop.requested and self.trainer.state.global_step < self.trainer.state.max_steps:
            raise InterruptedTrainingError(
                f"training was stopped at step {self.trainer.state.global_step} of {self.trainer.state.max_steps}; "
                "its checkpoint is written, run the same command again to go on from there"
            )

    def _take_finished(self, checkpoint: Path) -> bool:
        """Take weights and state as they are when ``checkpoint`` is the last one: Trainer would do one step more."""
        from transformers import TrainerState

        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step < state.max_steps:
            return False
        self.trainer._load_from_checkpoint(str(checkpoint))
        self.trainer.state = state
        return True

    def write_adapter(self, folder: Path) -> int:
        """Write the weights that the recipe asks for, tokenizer and history; give the step they are from."""
        folder.mkdir(parents=True, exist_ok=True)
        self.trainer.save_model(str(folder))
        best = self.history.best()
        step: int = self.trainer.state.global_step
        if self.config.checkpoint == "best" and best is not None:
            from components.train_lora.trainer import BEST

            shutil.copy(self.run_dir / BEST / "adapter_model.safetensors", folder)
            step = best[0]
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; nothing downstream reads it
        shutil.copy(self.run_dir / HISTORY_NAME, folder / HISTORY_NAME)
        return step

    def figures(self) -> dict[str, Any]:
        """What was measured, under the names of RunRecord."""
        losses = self.history.eval_losses()
        best = self.history.best()
        parameters = list(self.trainer.model.parameters())
        return {
            "hardware": _hardware(),
            "precision": self.precision,
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "total_parameters": sum(p.numel() for p in parameters),
            "steps": self.trainer.state.global_step,
            "minutes": self.progress.minutes(),
            "tokens_per_second": self.history.tokens_per_second(),
            "base_eval_loss": losses.get(0),
            "best_eval_loss": best[1] if best else None,
            "best_step": best[0] if best else None,
            "final_eval_loss": losses.get(self.trainer.state.global_step),
        }


def _examples(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, template: str, max_length: int) -> list[Example]:
    """Tokenized rows that keep at least one supervised token within ``max_length``."""
    whole = [Example(*tokenize_conversation(tokenizer, template, row.messages)) for row in rows]
    kept = [example for example in (example.cut(max_length) for example in whole) if example.n_supervised]
    if not kept:
        raise DataError(
            f"none of the {len(rows)} rows has a word of the assistant within train.max_length = {max_length} tokens; "
            "raise max_length"
        )
    if len(kept) < len(whole):
        log.warning(
            "%d of %d rows skipped: max_length %d cuts their answers away",
            len(whole) - len(kept),
            len(whole),
            max_length,
        )
    return kept


def _build_trainer(
    config: TrainConfig,
    precision: str,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    run_dir: Path,
    history: History,
    examples: Sequence[Example],
    validation: Sequence[Example],
) -> tuple[LoraTrainer, Progress, StopOnSigterm]:
    from datasets import Dataset
    from transformers import PrinterCallback

    from components.train_lora.trainer import LoraTrainer, Progress, SaveByTheClock, StopOnSigterm

    progress, stop = Progress(history), StopOnSigterm()
    rows = Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
    trainer = LoraTrainer(
        run_dir=run_dir,
        history=history,
        validation=validation,
        keep=config.save_total_limit,
        model=model,
        args=_to_trl(config, precision, run_dir),
        train_dataset=rows,
        eval_dataset=rows.select([0]),  # never read: LoraTrainer.evaluate measures the validation rows
        processing_class=tokenizer,
        peft_config=_to_peft(config),
        callbacks=[progress, SaveByTheClock(config.save_minutes), stop],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dict, beside Progress's line
    return trainer, progress, stop


def _to_peft(config: TrainConfig) -> LoraConfig:
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _to_trl(config: TrainConfig, precision: str, run_dir: Path) -> SFTConfig:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(run_dir),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=config.max_length,
        packing=config.packing,
        packing_strategy="bfd",
        eval_packing=False,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        logging_steps=config.logging_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        seed=config.seed,
        data_seed=config.seed,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        dataloader_pin_memory=precision != "float32",
        use_cpu=precision == "float32",  # evaluation and the record know CUDA and CPU only
        report_to="none",
        disable_tqdm=True,
    )


def _precision() -> tuple[str, torch.dtype]:
    """The compute type that the device does well: bfloat16 or float16 on a GPU, float32 on a CPU."""
    import torch

    if not torch.cuda.is_available():
        _require_no_gpu()
        return "float32", torch.float32
    # is_bf16_supported also counts emulation, which a T4 offers and nobody wants.
    if torch.cuda.get_device_capability()[0] >= 8:
        return "bfloat16", torch.bfloat16
    return "float16", torch.float16


def _require_no_gpu() -> None:
    """Refuse to train on the processor of a pod that was given a GPU: it would take a hundred times as long, unseen."""
    given = os.environ.get("LORRY_GPUS", "0")
    if given != "0" and "KUBERNETES_SERVICE_HOST" in os.environ:
        raise LorryError(
            f"this step was given {given} GPU(s), and torch {version('torch')} sees none: use a train image with CUDA "
            "(LORRY_TORCH=cuda), and look at the node's driver with nvidia-smi"
        )


def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
