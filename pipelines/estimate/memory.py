"""Peak memory of the steps that load the model."""

from __future__ import annotations

from dataclasses import dataclass

from components.artifacts.contracts import BaseModelRef
from components.evaluate.config import EvaluateConfig
from components.train_lora.config import TrainConfig
from pipelines.estimate.machines import Machine
from pipelines.estimate.schedule import Batch, kept_elements
from pipelines.estimate.shape import ModelShape

# A process with torch, transformers and trl in it; seen on Linux: 0.75 GB with its wheel for CUDA.
LIBRARIES_BYTES = 800e6
LLAMA_BYTES = 500e6
# A split renders rows with the tokenizer, which a large vocabulary makes large.
SPLIT_BYTES, SPLIT_BYTES_A_TOKEN = 700e6, 4500
SMALL_STEP_BYTES = 110e6
# Beside the weights of an export: the converter's buffers.
EXPORT_SHARE = 0.25
# The driver's own share of a GPU, and what torch's allocator holds beyond what tensors take.
CUDA_BYTES = 0.5e9
FRAGMENTATION = 1.1
# On a CPU freed tensors of many sizes stay with the process: the demo took 2.4 GB in its first steps, 3.1 GB after 94.
CPU_FRAGMENTATION = 1.9
# Weights, gradient and Adam's two averages of a trained number, all in float32.
TRAINED_BYTES = 16
# bitsandbytes' nf4 with doubly quantized scales, a weight.
NF4_BYTES = 0.516
# Logits, their softmax and its gradient, in float32. In a validation there is no gradient.
LOGIT_BYTES, MEASURED_LOGIT_BYTES = 12, 8
# TRL computes logits on a GPU in chunks of so many tokens.
LOGITS_CHUNK = 256
# Up to this size evaluate_gguf computes in float32.
MAX_FLOAT32_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Precision:
    """The bytes of a number in the computation, and whether the base's weights are in nf4."""

    n_bytes: int
    nf4: bool

    def weights(self, shape: ModelShape) -> float:
        """Bytes of the base's weights in memory."""
        if not self.nf4:
            return float(self.n_bytes * shape.n_parameters)
        return NF4_BYTES * shape.n_linear + self.n_bytes * (shape.n_parameters - shape.n_linear)


def precision_of(train: TrainConfig, base: BaseModelRef, machine: Machine) -> Precision:
    """How a training computes on a machine; see ``components.train_lora.device``."""
    lacks_bfloat16 = machine.has_gpu and not machine.speed.bfloat16
    asked = train.base_quantization == "nf4" or (train.base_quantization == "auto" and lacks_bfloat16)
    return Precision(2 if machine.has_gpu else 4, nf4=asked or base.quantization is not None)


@dataclass(frozen=True)
class Peak:
    """Peak bytes of a step: of the machine's memory, and of the fullest GPU where it uses one."""

    host: float
    gpu: float | None = None


def _on(machine: Machine, loaded: float, stored: float, libraries: float = LIBRARIES_BYTES) -> Peak:
    """The peak of a step whose weights and tensors take ``loaded`` bytes, from files of ``stored`` bytes."""
    if machine.has_gpu:
        # Weights pass through the machine's memory, from mapped files.
        return Peak(host=2.5e9 + stored, gpu=CUDA_BYTES + FRAGMENTATION * loaded)
    return Peak(host=libraries + loaded)


def training_peak(
    shape: ModelShape, train: TrainConfig, precision: Precision, machine: Machine, largest: Batch, validation: Batch
) -> Peak:
    """The peak of training: of its largest step, or of its largest validation."""
    weights = precision.weights(shape)
    trained = TRAINED_BYTES * shape.n_lora(train.lora_rank, train.lora_target_modules)
    step = activations(shape, train, precision.n_bytes, largest)
    step *= 1.0 if machine.has_gpu else CPU_FRAGMENTATION
    measured = _measured(shape, precision.n_bytes, validation)
    files = 0.0 if machine.has_gpu else shape.stored_bytes - trained
    return _on(machine, weights + trained + max(step, measured, files), shape.stored_bytes)


def activations(shape: ModelShape, train: TrainConfig, n_bytes: int, largest: Batch) -> float:
    """Bytes that a step keeps for its backward pass, with the logits."""
    a_block = (kept_elements(shape) + _lora_elements(shape, train)) * n_bytes * largest.n_tokens
    if train.gradient_checkpointing:
        kept = shape.n_layers * shape.hidden_size * n_bytes * largest.n_tokens + a_block
    else:
        kept = shape.n_layers * a_block
    # On a CPU all supervised tokens have their logits at once, on a GPU a chunk of them.
    n_logits = largest.n_supervised if n_bytes == 4 else min(largest.n_supervised, LOGITS_CHUNK)
    return kept + LOGIT_BYTES * shape.vocab_size * n_logits


def _lora_elements(shape: ModelShape, train: TrainConfig) -> int:
    """Numbers a token that the adapters of a block keep: the input of each B."""
    n_matrices = sum(tensor.is_linear for tensor in shape.tensors) // max(shape.n_layers, 1)
    return train.lora_rank * n_matrices


def _measured(shape: ModelShape, n_bytes: int, batch: Batch) -> float:
    """Bytes of a pass without a gradient: a block at a time, and all logits."""
    return kept_elements(shape) * n_bytes * batch.n_tokens + (
        MEASURED_LOGIT_BYTES * shape.vocab_size * batch.n_supervised
    )


def evaluation_peak(
    shape: ModelShape, train: TrainConfig, evaluate: EvaluateConfig, machine: Machine, batch: Batch
) -> Peak:
    """The peak of ``evaluate``, which loads the full weights in the type of training."""
    n_bytes = 2 if machine.has_gpu else 4
    loaded = n_bytes * shape.n_parameters + 4 * shape.n_lora(train.lora_rank, train.lora_target_modules)
    files = 0.0 if machine.has_gpu else float(shape.stored_bytes)
    return _on(machine, loaded + max(_measured(shape, n_bytes, batch), files), shape.stored_bytes)


def export_peak(shape: ModelShape) -> Peak:
    """The peak of ``export_gguf``, which holds the weights as they are stored."""
    return Peak(host=LIBRARIES_BYTES + (1 + EXPORT_SHARE) * shape.stored_bytes)


def split_peak(shape: ModelShape) -> Peak:
    """The peak of ``split_data``."""
    return Peak(host=SPLIT_BYTES + SPLIT_BYTES_A_TOKEN * shape.vocab_size)


def gguf_evaluation_peak(shape: ModelShape, f16_bytes: int, model_bytes: int, longest: int) -> Peak:
    """The peak of ``evaluate_gguf``: the adapter on its base beside the f16 file, then the two files."""
    n_bytes = 4 if shape.stored_bytes <= MAX_FLOAT32_BYTES else 2
    logits = 16 * shape.vocab_size * longest
    beside = n_bytes * shape.n_parameters + max(f16_bytes, shape.stored_bytes)
    return Peak(host=LIBRARIES_BYTES + LLAMA_BYTES + max(beside, f16_bytes + model_bytes + logits))
