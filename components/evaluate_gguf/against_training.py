"""The f16 file against the adapter as transformers runs it: the served model must be the trained one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError
from components.evaluate_gguf.quality import Quality, supervised
from components.gguf.model import GgufModel
from components.gguf.sampling import Sampling
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.token_loss import Example, gives_chosen_logits

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)

MAX_ROWS = 3
MAX_NEW_TOKENS = 24
MAX_COMPARED_TOKENS = 256
# Mean over the answers' tokens, in nats. Rounding to f16, and computing in bfloat16, stay far below.
MAX_KL_DIVERGENCE = 0.1
# Weights up to this size compute in float32; larger ones as they are stored.
MAX_FLOAT32_BYTES = 4 * 2**30


@dataclass
class Agreement:
    """How much the predictions of adapter and file differ, and for each prompt: (prompt, adapter's answer, file's)."""

    kl_divergence: float = 0.0
    answers: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        """By the names that the report uses."""
        return {
            "training_kl_divergence": self.kl_divergence,
            "training_answers": len(self.answers),
            "training_same_answers": sum(adapter == file for _, adapter, file in self.answers),
        }


def compare_with_training(
    base_model: BaseModelRef, adapter_path: str, f16: Path, examples: Sequence[Example]
) -> Agreement:
    """Compare predictions and greedy answers on the first of ``examples``.

    Raises:
        ModelError: the file predicts something else than the adapter.
    """
    import torch
    from peft import PeftModel

    tokenizer = load_tokenizer(base_model)
    full = base_model.to_merge_into
    # The size is 0 where it is not known, as of weights on a cluster's volume.
    dtype = torch.float32 if 0 < full.weight_bytes <= MAX_FLOAT32_BYTES else "auto"
    weights: PeftModel = PeftModel.from_pretrained(load_weights(full, dtype), adapter_path).eval()
    file = GgufModel(f16, n_ctx=max(len(example.input_ids) for example in examples) + MAX_NEW_TOKENS)
    n_vocab = min(file.n_vocab, weights.config.get_text_config().vocab_size)
    ends = [token for token in range(n_vocab) if file.is_end(token)]
    quality, agreement = Quality(), Agreement()
    try:
        for number, whole in enumerate(examples[:MAX_ROWS], start=1):
            first = next(i for i, label in enumerate(whole.labels) if label != -100)
            example = whole.cut(min(first + MAX_COMPARED_TOKENS, file.n_ctx))
            if first + MAX_NEW_TOKENS > file.n_ctx or not example.n_supervised:
                log.info("row %d is not compared with training: its prompt fills the model's context", number)
                continue
            _add_predictions(quality, weights, file, example)
            prompt = example.input_ids[:first]
            generated = [_generate_with_torch(weights, ends, prompt), _generate_with_llama(file, prompt)]
            adapter, served = (tokenizer.decode(ids, skip_special_tokens=True) for ids in generated)
            agreement.answers.append((tokenizer.decode(prompt), adapter, served))
            log.info("row %d/%d compared with training", number, min(len(examples), MAX_ROWS))
    finally:
        file.close()
    agreement.kl_divergence = quality.figures["kl_divergence"]
    log.info(
        "f16 against the adapter: KL divergence %.6f, %d of %d answers the same",
        agreement.kl_divergence,
        int(agreement.figures["training_same_answers"]),
        len(agreement.answers),
    )
    if agreement.kl_divergence > MAX_KL_DIVERGENCE:
        raise ModelError(
            f"the f16 file does not predict what the adapter does (KL divergence {agreement.kl_divergence:.3f} nats a "
            f"token, more than {MAX_KL_DIVERGENCE}): something of {base_model.address} is lost in the conversion; use "
            "another base model"
        )
    return agreement


def _add_predictions(quality: Quality, weights: PeftModel, file: GgufModel, example: Example) -> None:
    import torch

    wanted, targets = supervised(example)
    positions = torch.tensor(wanted).nonzero().flatten()
    ids = torch.tensor([example.input_ids])
    with torch.inference_mode():
        if gives_chosen_logits(weights):
            logits = weights(input_ids=ids, use_cache=False, logits_to_keep=positions).logits[0]
        else:
            logits = weights(input_ids=ids, use_cache=False).logits[0, positions]
    n_done = 0
    for theirs in file.logits(example.input_ids, wanted):
        ours = logits[n_done : n_done + len(theirs)].float().numpy()
        n_vocab = min(ours.shape[1], theirs.shape[1])  # one of them may be padded
        quality.add(ours[:, :n_vocab], theirs[:, :n_vocab], targets[n_done : n_done + len(theirs)])
        n_done += len(theirs)


def _generate_with_torch(weights: PeftModel, ends: Sequence[int], prompt: Sequence[int]) -> list[int]:
    import torch

    ids = torch.tensor([list(prompt)])
    with torch.inference_mode():
        output = weights.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=list(ends),
            pad_token_id=ends[0],
        )
    new: list[int] = output[0, len(prompt) :].tolist()
    return [token for token in new if token not in ends]


def _generate_with_llama(file: GgufModel, prompt: Sequence[int]) -> list[int]:
    generated = []
    for _, token in zip(range(MAX_NEW_TOKENS), file.generate(prompt, Sampling()), strict=False):
        if file.is_end(token):
            break
        generated.append(token)
    return generated
