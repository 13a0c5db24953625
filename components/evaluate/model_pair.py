"""A base model with its adapter in one process: the base is the same model with the adapter disabled."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Message, Row, RunRecord
from components.artifacts.rows import read_rows
from components.evaluate.prompts import Prompt
from components.evaluate.results import GeneratedAnswer, SplitLoss
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.chat_template import answer_edges, render_with, template_of
from components.modeling.reasoning import OPEN, before_reasoning, split_reasoning
from components.modeling.supervision import end_of_turn, examples_of
from components.modeling.token_loss import Example, TokenLoss, token_loss

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class ModelPair:
    """Measures and answers with the tuned model, and with the base: the same model with its adapter disabled."""

    def __init__(
        self, base_model: BaseModelRef, adapter_path: str, record: RunRecord, *, max_length: int | None = None
    ) -> None:
        """Load both. Rows are cut to ``max_length`` tokens; None: as in training.

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
        # As exported: the adapter on the full weights, even where it was trained on 4-bit ones.
        model = load_weights(base_model.to_merge_into, getattr(torch, record.precision))
        self.ends = _end_tokens(self.tokenizer, self.template, model)
        self.model: PeftModel = PeftModel.from_pretrained(model, adapter_path)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def measure(self, split: str, path: str, batch_size: int) -> SplitLoss | None:
        """The loss of both on the rows at ``path``; None where the file has none."""
        rows = read_rows(path)
        if not rows:
            log.warning("%s has no rows; it is not measured", split)
            return None
        examples = self._examples(rows)
        loss = {
            name: token_loss(self.model, examples, batch_size=batch_size, pad_token_id=self.tokenizer.pad_token_id)
            for name in self._models()
        }
        result = SplitLoss(split, len(rows), loss["base"], loss["tuned"])
        log.info(
            "%s loss: base %.4f, tuned %.4f (%.1f %% lower)",
            split, result.base.loss, result.tuned.loss, 100 * result.improvement,
        )  # fmt: skip
        return result

    def tuned_loss(self, path: str, batch_size: int) -> TokenLoss:
        """The loss of the tuned model on the rows at ``path``."""
        examples = self._examples(read_rows(path))
        return token_loss(self.model, examples, batch_size=batch_size, pad_token_id=self.tokenizer.pad_token_id)

    def _examples(self, rows: Sequence[Row]) -> list[Example]:
        examples, _ = examples_of(self.base_model, self.tokenizer, self.template, rows, self.max_length)
        return [example for own in examples for example in own]

    def answer(self, prompt: Prompt, max_new_tokens: int, position: str) -> list[GeneratedAnswer]:
        """Greedy answers of both to every turn. A model's earlier answers are part of its prompt, without reasoning.

        ``position`` is logged, such as ``2/7``.
        """
        answers = []
        for name in self._models():
            messages = [Message(role="system", content=prompt.system)] if prompt.system else []
            for turn in prompt.turns:
                messages.append(Message(role="user", content=turn))
                answer = self._answer_turn(prompt.name, turn, name, messages, max_new_tokens)
                answers.append(answer)
                messages.append(Message(role="assistant", content=split_reasoning(answer.text, edges=self.edges)[1]))
        log.info("prompt %s answered: %s", position, prompt.name)
        return answers

    def _models(self) -> Any:
        for name in ("base", "tuned"):
            with self.model.disable_adapter() if name == "base" else nullcontext():
                yield name

    def _answer_turn(
        self, prompt: str, turn: str, name: str, messages: Sequence[Message], max_new_tokens: int
    ) -> GeneratedAnswer:
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
        decoded = self.tokenizer.decode(new, skip_special_tokens=True)
        opened = "" if before_reasoning(text) is None else OPEN
        return GeneratedAnswer(prompt, turn, name, opened + decoded, seconds, len(new))


def _end_tokens(tokenizer: PreTrainedTokenizerBase, template: str, model: PreTrainedModel) -> list[int]:
    """Ids of all tokens that end a turn: the tokenizer's, the template's and those of the generation config."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    known = {tokenizer.eos_token_id, end_of_turn(tokenizer, template)}
    return sorted({*known, *(configured if isinstance(configured, list) else [configured])} - {None})
