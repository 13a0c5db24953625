"""Measure base and tuned model on the same rows, and let both answer the same prompts."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base_model import load_tokenizer, load_weights
from components.chat_template import render_with, template_of, tokenize_conversation
from components.contracts import BaseModelRef, Message, RunRecord
from components.evaluate.config import EvaluateConfig
from components.evaluate.prompts import Prompt, read_prompts
from components.evaluate.report import write_report
from components.evaluate.results import Answer, SplitLoss
from components.inputs import local_file
from components.rows import read_rows
from components.run_record import read_record
from components.token_loss import Example, token_loss

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def evaluate(
    config: EvaluateConfig,
    base_model: BaseModelRef,
    *,
    adapter_path: str,
    validation_path: str,
    test_path: str,
    report_path: str,
    samples_path: str,
) -> dict[str, float]:
    """Write the HTML report and the samples (JSON); give the figures by name. Losses are in nats per token.

    Raises:
        ModelError: base model or adapter cannot be loaded.
        DataError: the prompts file cannot be used.
    """
    revision = config.prompts_revision
    prompts = read_prompts(local_file(config.prompts, revision), revision) if config.prompts else []
    record = read_record(adapter_path)
    both = _Pair(base_model, adapter_path, record)
    paths = {"validation": validation_path, **({"test": test_path} if config.test else {})}
    losses = [
        loss
        for split, path in paths.items()
        if (loss := both.measure(split, path, config.per_device_eval_batch_size)) is not None
    ]
    answers = [
        answer
        for number, prompt in enumerate(prompts, start=1)
        for answer in both.answer(prompt, config.max_new_tokens, f"{number}/{len(prompts)}")
    ]
    write_report(report_path, record, losses, answers)
    samples = [asdict(answer) | {"tokens_per_second": answer.tokens_per_second} for answer in answers]
    Path(samples_path).write_text(json.dumps(samples, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return _figures(losses, answers, record)


class _Pair:
    """The base model with its adapter: tuned as it is, base with the adapter switched off."""

    def __init__(self, base_model: BaseModelRef, adapter_path: str, record: RunRecord) -> None:
        import torch
        from peft import PeftModel

        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(base_model)
        self.template = template_of(self.tokenizer, base_model.address)
        self.max_length = record.train["max_length"]
        # What is exported is measured: the adapter on the full weights, also when it was trained on 4-bit ones.
        model = load_weights(base_model.to_merge_into, getattr(torch, record.precision))
        self.ends = _end_tokens(self.tokenizer, model)
        self.model: PeftModel = PeftModel.from_pretrained(model, adapter_path)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def measure(self, split: str, path: str, batch_size: int) -> SplitLoss | None:
        """Loss of both on the rows at ``path``, cut as in training; None where there are none."""
        rows = read_rows(path)
        if not rows:
            log.warning("%s has no rows; it is not measured", split)
            return None
        examples = [
            Example(*tokenize_conversation(self.tokenizer, self.template, row.messages)).cut(self.max_length)
            for row in rows
        ]
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

    def answer(self, prompt: Prompt, max_new_tokens: int, place: str) -> list[Answer]:
        """Both models' greedy answers to every turn; each hears its own earlier answers."""
        answers = []
        for name in self._each():
            messages = [Message(role="system", content=prompt.system)] if prompt.system else []
            for turn in prompt.turns:
                messages.append(Message(role="user", content=turn))
                answer = self._answer_turn(prompt.name, turn, name, messages, max_new_tokens)
                answers.append(answer)
                messages.append(Message(role="assistant", content=answer.text))
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
        return Answer(prompt, turn, name, self.tokenizer.decode(new, skip_special_tokens=True), seconds, len(new))


def _end_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model's generation settings name."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None})


def _figures(losses: Sequence[SplitLoss], answers: Sequence[Answer], record: RunRecord) -> dict[str, float]:
    figures: dict[str, float] = {}
    for loss in losses:
        for name, value in (("base", loss.base), ("tuned", loss.tuned)):
            figures[f"{name}_{loss.split}_loss"] = value.loss
            figures[f"{name}_{loss.split}_perplexity"] = value.perplexity
    if record.best_eval_loss is not None:
        figures["best_validation_loss"] = record.best_eval_loss
    for name in ("base", "tuned"):
        own = [answer for answer in answers if answer.model == name]
        if own:
            figures[f"{name}_seconds_per_answer"] = sum(answer.seconds for answer in own) / len(own)
            figures[f"{name}_tokens_per_second"] = sum(a.n_tokens for a in own) / sum(a.seconds for a in own)
    return figures
