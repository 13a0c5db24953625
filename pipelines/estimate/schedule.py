"""What a training computes: its steps, the tokens in them, and the largest batch."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from components.modeling.token_loss import MAX_LOGITS
from components.train_lora.config import TrainConfig
from pipelines.estimate.lengths import SplitLengths
from pipelines.estimate.shape import ModelShape

# More sequences are packed, or drawn into batches, by their share.
MAX_DRAWN = 5_000


@dataclass(frozen=True)
class Batch:
    """The largest batch of a step: its tokens, those in the loss, and the length of its longest sequence."""

    n_tokens: int
    n_supervised: int
    longest: int


@dataclass(frozen=True)
class Schedule:
    """The training of one run; ``n_tokens``, ``n_supervised`` and ``squares`` are of all its steps together."""

    n_steps: int
    n_tokens: float
    n_supervised: float
    squares: float
    n_validations: int
    n_checkpoints: int
    largest: Batch


def schedule_of(train: TrainConfig, rows: SplitLengths, n_processes: int) -> Schedule:
    """The schedule of a training on ``n_processes`` GPUs, or on one machine without any."""
    drawn = _drawn(rows)
    scale = rows.n_sequences / max(len(drawn), 1)
    n_sequences = math.ceil(scale * n_packs(drawn, train.max_length)) if train.packing else rows.n_sequences
    n_batches = math.ceil(n_sequences / (train.per_device_train_batch_size * n_processes))
    per_epoch = max(math.ceil(n_batches / train.gradient_accumulation_steps), 1)
    whole = train.max_steps or math.ceil(train.num_train_epochs * per_epoch)
    n_steps = max(math.ceil(whole * train.stop_after_fraction), 1)
    epochs = n_steps / per_epoch
    return Schedule(
        n_steps=n_steps,
        n_tokens=epochs * rows.n_tokens,
        n_supervised=epochs * rows.n_supervised,
        squares=epochs * rows.squares,
        n_validations=1 + math.ceil(n_steps / train.eval_steps),
        n_checkpoints=math.ceil(n_steps / train.save_steps),
        largest=_largest(train, rows, drawn),
    )


def _drawn(rows: SplitLengths) -> list[int]:
    """Lengths of as many sequences as there are, drawn from those that were read; at most ``MAX_DRAWN``."""
    if not rows.tokens:
        return []
    n = min(rows.n_sequences, MAX_DRAWN)
    return list(rows.tokens) if n <= len(rows.tokens) else random.Random(0).choices(rows.tokens, k=n)


def n_packs(lengths: Sequence[int], max_length: int) -> int:
    """The number of sequences of ``max_length`` tokens that hold whole rows, each put where it fits best."""
    free: dict[int, int] = {}  # free tokens: packs with so many
    spaces: list[int] = []  # the keys of ``free``, sorted on demand
    n = 0
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in spaces if space >= length and free.get(space)]
        space = min(fitting, default=max_length)
        if fitting:
            free[space] -= 1
        else:
            n += 1
        left = space - length
        if left not in free:
            spaces.append(left)
        free[left] = free.get(left, 0) + 1
    return n


def _largest(train: TrainConfig, rows: SplitLengths, drawn: Sequence[int]) -> Batch:
    """The largest batch that a training meets."""
    share = rows.n_supervised / max(rows.n_tokens, 1)
    longest = max(rows.tokens, default=0)
    size = train.per_device_train_batch_size
    if train.packing:
        n = size * train.max_length
    elif len(drawn) <= size:
        n = sum(drawn)
    else:
        shuffled = random.Random(1).sample(drawn, len(drawn))
        n = max(sum(shuffled[first : first + size]) for first in range(0, len(shuffled), size))
    most = heapq.nlargest(size, rows.supervised)
    supervised = min(n, max(share * n, sum(most) if not train.packing else 0))
    return Batch(n, round(supervised), longest)


def validation_batch(shape: ModelShape, rows: SplitLengths, batch_size: int) -> Batch:
    """The largest batch of a validation, padded to its longest row; a large vocabulary makes it smaller."""
    longest = max(rows.tokens, default=0)
    n = max(1, min(batch_size, MAX_LOGITS // shape.vocab_size // max(longest, 1), len(rows.tokens)))
    supervised = max(rows.supervised, default=0)
    # A position has logits where any row of the batch supervises it.
    positions = min(longest, round(supervised * (1 + 0.5 * (n - 1))))
    return Batch(n * longest, n * positions, longest)


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and bytes that the layers between the matrices read and write."""

    flops: float
    traffic: float

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.traffic + other.traffic)


def kept_elements(shape: ModelShape) -> int:
    """Numbers a token that one block keeps for the backward pass.

    By the widths of its parts: norms, residuals and inputs; queries and the attention's result; keys and values; gate,
    up, their product and its input.
    """
    return 8 * shape.hidden_size + 2 * shape.attention_width + 2 * shape.key_width + 4 * shape.intermediate_size


# How often each of them is read or written in a forward pass, and in a backward pass.
TOUCHES_FORWARD, TOUCHES_BACKWARD = 4, 6


def forward_work(shape: ModelShape, n_tokens: float, squares: float, n_logits: float, n_bytes: int) -> Work:
    """One pass without a gradient; ``n_bytes`` is the size of a number."""
    matrices = 2 * shape.n_computing * n_tokens
    attention = 2 * squares * shape.attention_width * shape.n_layers
    traffic = TOUCHES_FORWARD * kept_elements(shape) * shape.n_layers * n_tokens * n_bytes
    # A token's logits are written, and read for the loss.
    return Work(matrices + attention + 2 * shape.n_head * n_logits, traffic + 4.0 * shape.vocab_size * n_logits * 4)


def training_work(shape: ModelShape, train: TrainConfig, plan: Schedule, n_bytes: int) -> Work:
    """All steps of a training: the base's weights are frozen, so their backward pass takes as much as the forward."""
    n_lora = shape.n_lora(train.lora_rank, train.lora_target_modules)
    passes = 3 if train.gradient_checkpointing else 2
    one = forward_work(shape, plan.n_tokens, plan.squares, plan.n_supervised, n_bytes)
    attention = 2 * plan.squares * shape.attention_width * shape.n_layers
    flops = passes * one.flops + attention + 6 * n_lora * plan.n_tokens
    return Work(flops, one.traffic * (passes - 1 + TOUCHES_BACKWARD / TOUCHES_FORWARD))
