"""A base model with its adapter: tuned as it is, base with the adapter switched off."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Message, Row, RunRecord
from components.artifacts.rows import read_rows
from components.evaluate.prompts import Prompt
from components.evaluate.results import Answer, SplitLoss
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.chat_template import answer_edges, render_with, template_of
from components.modeling.reasoning import OPEN, before_reasoning, split_reasoning
from components.modeling.supervision import end_of_turn, examples_of
from components.modeling.token_loss import Example, TokenLoss, token_loss

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class Pair:
    """The base model with its adapter: tuned as it is, base with the adapter switched off."""

    def __init__(
        self, base_model: BaseModelRef, adapter_path: str, record: RunRecord, *, max_length: int | None = None
    ) -> None:
        """Load both. ``max_length`` is where rows are cut, in tokens; None: as in training.

        Raises:
            ModelError: base model or adapter cannot be loaded.
        """
        import torch
        from peft import PeftModel

        self.base_model = base_model
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(base_model)
        self.template = template_of(self.tokenizer, base_model.address)
        tokens = (str(self.tokenizer.bos_token or ""), str(self.tokenizer.eos_token or ""))
        self.edges = answer_edges(self.template, *tokens)
        self.max_length = max_length or record.train["max_length"]
        # What is exported is measured: the adapter on the full weights, also when it was trained on 4-bit ones.
        model = load_weights(base_model.to_merge_into, getattr(torch, record.precision))
        self.ends = _end_tokens(self.tokenizer, self.template, model)
        self.model: PeftModel = PeftModel.from_pretrained(model, adapter_path)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def measure(self, split: str, path: str, batch_size: int) -> SplitLoss | None:
        """Loss of both on the rows at ``path``, cut as in training; None where there are none."""
        rows = read_rows(path)
        if not rows:
            log.warning("%s has no rows; it is not measured", split)
            return None
        examples = self._examples(rows)
        loss = {
            name: token_loss(self.model, examples, batch_size=batch_size, pad_token_id=self.tokenizer.pad_token_id)
            for name in self._each()
        }
        result = SplitLoss(split, len(rows), loss["base"], loss["tuned"])
        log.info(
            "%s loss: base %.4f, tuned %.4f (%.1f %% lower)",
            split, result.base.loss, result.tuned.loss, 100 * result.improvement,
        )  # fmt: skip
        return result

    def tuned_loss(self, path: str, batch_size: int) -> TokenLoss:
        """Loss of the tuned model on the rows at ``path``."""
        examples = self._examples(read_rows(path))
        return token_loss(self.model, examples, batch_size=batch_size, pad_token_id=self.tokenizer.pad_token_id)

    def _examples(self, rows: Sequence[Row]) -> list[Example]:
        examples, _ = examples_of(self.base_model, self.tokenizer, self.template, rows, self.max_length)
        return [example for own in examples for example in own]

    def answer(self, prompt: Prompt, max_new_tokens: int, place: str) -> list[Answer]:
        """Both models' greedy answers to every turn; each hears its own earlier answers, without its thoughts."""
        answers = []
        for name in self._each():
            messages = [Message(role="system", content=prompt.system)] if prompt.system else []
            for turn in prompt.turns:
                messages.append(Message(role="user", content=turn))
                answer = self._answer_turn(prompt.name, turn, name, messages, max_new_tokens)
                answers.append(answer)
                messages.append(Message(role="assistant", content=split_reasoning(answer.text, edges=self.edges)[1]))
        log.info("prompt %s answered: %s", place, prompt.name)
        return answers

    def _each(self) -> Any:
        for name in ("base", "tuned"):
            with self.model.disable_adapter() if name == "base" else nullcontext():
                yield name

    def _answer_turn(
        self, prompt: str, turn: str, name: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Answer:
        import torch

        text = render_with(self.tokenizer, self.template, messages, add_generation_prompt=True)
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]], device=self.model.device)
        started = time.monotonic()
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.ends,
            )
        seconds = time.monotonic() - started
        new = [token for token in output[0, ids.shape[1] :].tolist() if token not in self.ends]
        said = self.tokenizer.decode(new, skip_special_tokens=True)
        opened = "" if before_reasoning(text) is None else OPEN
        return Answer(prompt, turn, name, opened + said, seconds, len(new))


def _end_tokens(tokenizer: PreTrainedTokenizerBase, template: str, model: PreTrainedModel) -> list[int]:
    """Every token that ends a turn: the tokenizer's, the template's, those that the generation settings name."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    known = {tokenizer.eos_token_id, end_of_turn(tokenizer, template)}
    return sorted({*known, *(named if isinstance(named, list) else [named])} - {None})
