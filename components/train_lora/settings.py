"""The recipe's settings as those of peft and trl."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig
from trl import SFTConfig

from components.train_lora.config import TrainConfig
from components.train_lora.device import Device


def to_peft(config: TrainConfig) -> LoraConfig:
    """peft's settings of the adapter."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )


def to_trl(config: TrainConfig, device: Device, run_dir: Path, *, padding_free: bool, chosen_logits: bool) -> SFTConfig:
    """trl's settings of training.

    ``padding_free``: a batch is one sequence. ``chosen_logits``: LoraTrainer computes the loss itself. Every step is
    logged: TrainingProgress chooses what is shown.
    """
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
        # Without packing, rows were cut to max_length when they were tokenized.
        max_length=config.max_length if config.packing else None,
        packing=config.packing,
        packing_strategy="bfd",
        padding_free=padding_free,
        eval_packing=False,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would log 0 for a loss that is not finite
        save_strategy="steps",
        save_steps=config.save_steps,
        seed=config.seed,
        data_seed=config.seed,
        bf16=device.precision == "bfloat16",
        fp16=device.precision == "float16",
        dataloader_pin_memory=device.precision != "float32",
        # TRL's default replaces the model's forward.
        loss_type="nll" if chosen_logits else "chunked_nll",
        use_cpu=device.precision == "float32",  # evaluation and the record know CUDA and CPU only
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
    )
