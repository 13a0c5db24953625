"""The settings of training: the recipe's ``train`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts.contracts import Checkpoint

# Settings of logging and saving change no result, so they are not part of the run's key.
LOGGING_AND_SAVING = frozenset(
    {"logging_steps", "save_steps", "save_minutes", "save_total_limit", "checkpoint", "tensorboard"}
)
# Where training stops changes no earlier step, so a run with a later end resumes from an earlier one's checkpoint.
STOPPING = frozenset(
    {"max_train_minutes", "early_stopping_patience", "early_stopping_threshold", "stop_after_fraction"}
)


class TrainConfig(BaseModel):
    """LoRA training with loss on the assistant's messages only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lora_rank: Annotated[int, Field(gt=0, description="LoRA r; 8-64 is usual")] = 16
    lora_alpha: Annotated[int, Field(gt=0, description="scale is lora_alpha / lora_rank")] = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_target_modules: Annotated[
        str | list[str], Field(description="'all-linear', or names of linear layers such as q_proj")
    ] = "all-linear"
    learning_rate: Annotated[float, Field(gt=0, description="peak; 2e-4 is usual, larger models take less")] = 2e-4
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant", "constant_with_warmup"
    ] = "linear"
    warmup_steps: Annotated[int, Field(ge=0, description="optimizer steps")] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    num_train_epochs: Annotated[float, Field(gt=0, description="passes over the rows; max_steps overrides it")] = 1.0
    max_steps: Annotated[int | None, Field(gt=0, description="optimizer steps; None = num_train_epochs")] = None
    per_device_train_batch_size: Annotated[int, Field(gt=0, description="rows")] = 2
    gradient_accumulation_steps: Annotated[int, Field(gt=0, description="batches an optimizer step")] = 4
    per_device_eval_batch_size: Annotated[int, Field(gt=0, description="rows")] = 8
    max_length: Annotated[int, Field(gt=1, description="tokens; longer rows are cut")] = 2048
    packing: Annotated[
        bool,
        Field(description="fill sequences of max_length with whole rows, for even memory; none attends to another"),
    ] = False
    base_quantization: Annotated[
        Literal["auto", "none", "nf4"],
        Field(description="nf4 trains on 4-bit base weights (QLoRA); auto: on a GPU without bfloat16, such as a T4"),
    ] = "auto"
    gradient_checkpointing: Annotated[bool, Field(description="less memory, about a third slower")] = False
    eval_steps: Annotated[int, Field(gt=0, description="optimizer steps between validations")] = 250
    max_train_minutes: Annotated[
        float | None, Field(gt=0, description="minutes of training, all invocations together; None = to the last step")
    ] = None
    stop_after_fraction: Annotated[
        float,
        Field(gt=0, le=1, description="share of the steps after which training ends; the schedule stays that of all"),
    ] = 1.0
    early_stopping_patience: Annotated[
        int | None, Field(gt=0, description="validations without a better loss until training ends; None = never")
    ] = None
    early_stopping_threshold: Annotated[
        float, Field(ge=0, description="nats by which a validation loss must be lower to be better")
    ] = 0.0
    logging_steps: Annotated[int, Field(gt=0, description="optimizer steps between progress lines")] = 10
    save_steps: Annotated[int, Field(gt=0, description="optimizer steps between checkpoints")] = 250
    save_minutes: Annotated[float, Field(gt=0, description="minutes between checkpoints, beside save_steps")] = 5.0
    save_total_limit: Annotated[int, Field(gt=0, description="number of checkpoints to keep")] = 2
    checkpoint: Annotated[
        Checkpoint, Field(description="the exported weights: of the last step, or of the best validation loss")
    ] = "final"
    tensorboard: Annotated[bool, Field(description="write TensorBoard files beside the checkpoints")] = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
