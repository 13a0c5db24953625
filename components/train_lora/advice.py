"""Advice on which setting to lower, and by how much, where the memory of the GPU or machine is too small."""

from __future__ import annotations

from components.train_lora.config import TrainConfig

# A note on an error: memory ran out in a validation, not in a training step.
MEASURING = "while the validation rows were measured"


def memory_advice(
    config: TrainConfig, *, precision: str, base_quantization: str | None, in_validation: bool = False
) -> str:
    """The change of a setting that saves memory at the lowest cost."""
    if in_validation and (rows := config.per_device_eval_batch_size) > 1:
        return f"{MEASURING}; set train.per_device_eval_batch_size {rows // 2} (it is {rows}): the losses stay the same"
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if rows > 1:
        fewer = rows // 2 if rows % 2 == 0 else 1
        return (
            f"set train.per_device_train_batch_size {fewer} (it is {rows}) and gradient_accumulation_steps "
            f"{batches * rows // fewer} (it is {batches}); a step has the same rows"
        )
    if not config.gradient_checkpointing:
        return "set train.gradient_checkpointing true; a step takes about a third longer, and is the same"
    if base_quantization is None and precision != "float32":
        return "set train.base_quantization nf4: the base weights take a quarter"
    return f"set train.max_length {config.max_length // 2} (it is {config.max_length}): longer rows are cut"
