"""Check that the base model's chat template can write a row: a row that it refuses is dropped before the training."""

from __future__ import annotations

from components.artifacts.contracts import BaseModelRef, Row
from components.errors import ModelError
from components.modeling.base_model import load_tokenizer, tokens_without_rows
from components.modeling.chat_template import has_system, supports_system, template_of
from components.modeling.supervision import turns_of


class TemplateCheck:
    """The chat template of a base model, and its tokenizer."""

    def __init__(self, base_model: BaseModelRef) -> None:
        """Load both.

        Raises:
            ModelError: they cannot be loaded, or there is no template.
        """
        self.tokenizer = load_tokenizer(base_model)
        self.template = template_of(self.tokenizer, base_model.address)
        tokens = (str(self.tokenizer.bos_token or ""), str(self.tokenizer.eos_token or ""))
        self._takes_system = supports_system(self.template, *tokens)
        self._without_rows = tokens_without_rows(base_model, self.tokenizer)

    def problem(self, row: Row) -> str | None:
        """Why the row cannot be trained on, or None."""
        try:
            turns = turns_of(self.tokenizer, self.template, row)
        except ModelError as error:
            return str(error)
        for token in self._without_rows:
            if any(token in turn.prompt or token in turn.answer for turn in turns):
                return f"has the token {token!r}, for which the base model's embedding has no row"
        return None

    def moves_system(self, row: Row) -> bool:
        """Whether the row's system text is written into the first user turn: the template has no system role."""
        return has_system(row.messages) and not self._takes_system
