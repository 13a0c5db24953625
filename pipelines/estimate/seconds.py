"""Seconds of the steps by published figures, before earlier runs correct them."""

from __future__ import annotations

from dataclasses import dataclass

from components.evaluate_gguf.against_training import MAX_COMPARED_TOKENS, MAX_NEW_TOKENS, MAX_ROWS
from components.train_lora.config import TrainConfig
from pipelines.estimate.lengths import Data, SplitLengths
from pipelines.estimate.machines import Machine, Speed
from pipelines.estimate.memory import Precision
from pipelines.estimate.schedule import Schedule, Work, forward_work, training_work
from pipelines.estimate.shape import ModelShape
from pipelines.estimate.sizes import Sizes

# Seen in runs of the demo on 2 cores: a Python process with nothing heavy, with torch, and with trl as well.
SMALL_START, TORCH_START, TRL_START = 2.0, 9.0, 16.0
SPLIT_START, SPLIT_SECONDS_A_ROW = 3.0, 4e-4
# Python's share of a token that transformers generates, a layer; with an adapter that is not merged.
GENERATE_SECONDS_A_LAYER = 7e-4
# Merging, writing, converting and quantizing read and write weights many times over.
CONVERT_BYTES_PER_SECOND = 150e6
QUANTIZE_WEIGHTS_PER_SECOND_A_CORE = 25e6
WRITE_BYTES_PER_SECOND = 200e6


@dataclass(frozen=True)
class Seconds:
    """What a step takes whatever it computes, and what grows with the work."""

    start: float
    work: float

    @property
    def total(self) -> float:
        return self.start + self.work


def _computing(work: Work, speed: Speed) -> float:
    return work.flops / speed.flops + work.traffic / speed.bytes_per_second


def split_seconds(data: Data) -> Seconds:
    """Seconds of ``split_data``."""
    return Seconds(SPLIT_START, data.n_records * SPLIT_SECONDS_A_ROW)


def training_seconds(
    shape: ModelShape,
    train: TrainConfig,
    plan: Schedule,
    validation: SplitLengths,
    precision: Precision,
    machine: Machine,
    checkpoint_bytes: float,
) -> Seconds:
    """Seconds of ``train_lora``, with its validations and checkpoints."""
    speed = machine.speed
    training = _computing(training_work(shape, train, plan, precision.n_bytes), speed)
    measuring = _computing(_measure_work(shape, validation, precision.n_bytes), speed) * plan.n_validations
    saving = (plan.n_checkpoints + plan.n_validations) * checkpoint_bytes / WRITE_BYTES_PER_SECOND
    work = training / max(machine.gpus, 1) + measuring / max(machine.gpus, 1) + saving
    if train.max_train_minutes is not None:
        work = min(work, 60 * train.max_train_minutes)
    return Seconds(TRL_START + _loading(shape), work)


def _measure_work(shape: ModelShape, rows: SplitLengths, n_bytes: int) -> Work:
    return forward_work(shape, rows.n_tokens, rows.squares, rows.n_supervised, n_bytes)


def _loading(shape: ModelShape) -> float:
    return shape.stored_bytes / 1e9


def evaluation_seconds(
    shape: ModelShape, splits: list[SplitLengths], n_answers: int, answer_tokens: float, machine: Machine
) -> Seconds:
    """Seconds of ``evaluate``: base and tuned model on the rows of ``splits``, and ``n_answers`` of each."""
    n_bytes = 2 if machine.has_gpu else 4
    work = sum(_computing(_measure_work(shape, rows, n_bytes), machine.speed) for rows in splits)
    a_token = shape.n_layers * GENERATE_SECONDS_A_LAYER + n_bytes * shape.n_parameters / machine.speed.bytes_per_second
    return Seconds(TORCH_START + _loading(shape), 2 * (work + n_answers * answer_tokens * a_token))


def export_seconds(shape: ModelShape, sizes: Sizes, machine: Machine) -> Seconds:
    """Seconds of ``export_gguf``."""
    is_quantized = sizes.model < sizes.f16
    quantizing = shape.n_parameters / (QUANTIZE_WEIGHTS_PER_SECOND_A_CORE * machine.cores) if is_quantized else 0.0
    return Seconds(TORCH_START, _f16_seconds(shape) + quantizing)


def _f16_seconds(shape: ModelShape) -> float:
    """Merging, writing the merged weights, and converting them."""
    return 2 * shape.stored_bytes / CONVERT_BYTES_PER_SECOND


def gguf_evaluation_seconds(
    shape: ModelShape, rows: SplitLengths, max_rows: int, n_answers: int, answer_tokens: float, machine: Machine
) -> Seconds:
    """Seconds of ``evaluate_gguf``: the f16 file made anew, both files on the rows, and answers of each."""
    share = min(1.0, max_rows / max(rows.n_sequences, 1))
    read = 2 * shape.n_computing * rows.n_tokens * share + 2 * shape.n_head * rows.n_supervised * share
    greedy = MAX_ROWS * MAX_NEW_TOKENS * _decode(shape, machine) * 3
    compared = 4 * shape.n_parameters * MAX_ROWS * MAX_COMPARED_TOKENS / machine.speed.gguf_flops
    answers = 2 * n_answers * answer_tokens * _decode(shape, machine)
    work = _f16_seconds(shape) + 2 * read / machine.speed.gguf_flops + greedy + compared + answers
    return Seconds(TORCH_START, work)


def _decode(shape: ModelShape, machine: Machine) -> float:
    """Seconds of a token that llama.cpp generates, of the f16 file."""
    return shape.stored_bytes / machine.speed.bytes_per_second


def publish_seconds(sizes: Sizes) -> Seconds:
    """Seconds of ``publish_model``, which copies the file and reads it once for its digest."""
    return Seconds(SMALL_START, 2 * sizes.model / WRITE_BYTES_PER_SECOND)


def gate_seconds() -> Seconds:
    """Seconds of ``gate``."""
    return Seconds(SMALL_START, 0.0)
