"""The token-weighted loss over rows, which training validates by and evaluation reports."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Above e^30 a perplexity means no more than "diverged", and e^710 exceeds a float.
MAX_LOSS_FOR_PERPLEXITY = 30.0
# The most logits of one batch; each takes about ten bytes until its loss is computed.
MAX_LOGITS = 2**28


@dataclass(frozen=True)
class Example:
    """A tokenized conversation. ``labels`` are the ids of supervised tokens and -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]

    def cut(self, max_length: int) -> Example:
        """The first ``max_length`` tokens."""
        return Example(self.input_ids[:max_length], self.labels[:max_length])

    @property
    def n_supervised(self) -> int:
        """The number of tokens in the loss; the first token is never one, as nothing precedes it."""
        return sum(label != -100 for label in self.labels[1:])


@dataclass(frozen=True)
class TokenLoss:
    """``loss`` in nats per supervised token, over ``n_tokens`` of them."""

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return perplexity_of(self.loss)


def perplexity_of(loss: float) -> float:
    """e to a loss in nats, bounded by ``MAX_LOSS_FOR_PERPLEXITY``."""
    return math.exp(min(loss, MAX_LOSS_FOR_PERPLEXITY))


def token_loss(model: PreTrainedModel, examples: Sequence[Example], *, batch_size: int, pad_token_id: int) -> TokenLoss:
    """The mean loss of ``model`` over every supervised token of ``examples``, each token counted once.

    Examples are batched by length, so the result depends on their order only in the last bits. With a large vocabulary
    a batch holds fewer than ``batch_size``.
    """
    return mean_loss(row_losses(model, examples, batch_size=batch_size, pad_token_id=pad_token_id))


def mean_loss(losses: Sequence[TokenLoss]) -> TokenLoss:
    """The mean of several losses, each token counted once."""
    n_tokens = sum(loss.n_tokens for loss in losses)
    return TokenLoss(math.fsum(loss.loss * loss.n_tokens for loss in losses) / max(n_tokens, 1), n_tokens)


def row_losses(
    model: PreTrainedModel, examples: Sequence[Example], *, batch_size: int, pad_token_id: int
) -> list[TokenLoss]:
    """The mean loss of ``model`` over the supervised tokens of each of ``examples``, in their order."""
    import torch

    was_training = model.training
    model.eval()
    measured = [TokenLoss(0.0, 0)] * len(examples)
    max_tokens = MAX_LOGITS // model.config.vocab_size
    with torch.inference_mode():
        for rows, (input_ids, attention_mask, labels) in _batches(
            examples, batch_size, max_tokens, pad_token_id, model.device
        ):
            logits, targets = _predictions(model, input_ids, attention_mask, labels)
            losses = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
            )
            sums = losses.view(len(rows), -1).double().sum(dim=1).tolist()
            counts = (targets != -100).sum(dim=1).tolist()
            for row, total, count in zip(rows, sums, counts, strict=True):
                measured[row] = TokenLoss(total / max(count, 1), count)
    model.train(was_training)
    return measured


def gives_chosen_logits(model: torch.nn.Module) -> bool:
    """Whether the model's forward has an argument for the positions of the logits, as in most of transformers."""
    get_base_model = getattr(model, "get_base_model", None)
    base = model if get_base_model is None else get_base_model()
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def _predictions(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (batch, positions, vocab) and targets (batch, positions), without positions that no row supervises.

    With a large vocabulary these would cost the most.
    """
    targets = labels[:, 1:]
    predicting = (targets != -100).any(dim=0).nonzero().flatten()
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    if gives_chosen_logits(model):
        return model(**inputs, logits_to_keep=predicting).logits, targets[:, predicting]
    return model(**inputs).logits[:, :-1], targets


def _batches(
    examples: Sequence[Example], batch_size: int, max_tokens: int, pad_token_id: int, device: torch.device
) -> Iterator[tuple[list[int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """For each batch the indices of its examples, and (input_ids, attention_mask, labels), each (batch, longest)."""
    import torch

    order = sorted(range(len(examples)), key=lambda row: len(examples[row].input_ids), reverse=True)
    first = 0
    while first < len(order):
        longest = len(examples[order[first]].input_ids)
        rows = order[first : first + max(1, min(batch_size, max_tokens // longest))]
        batch = [examples[row] for row in rows]
        first += len(batch)
        ids = [example.input_ids + [pad_token_id] * (longest - len(example.input_ids)) for example in batch]
        mask = [[1] * len(example.input_ids) + [0] * (longest - len(example.input_ids)) for example in batch]
        labels = [example.labels + [-100] * (longest - len(example.labels)) for example in batch]
        yield (
            rows,
            (
                torch.tensor(ids, device=device),
                torch.tensor(mask, device=device),
                torch.tensor(labels, device=device),
            ),
        )
