"""Responses of ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from components.gguf.model import TextStream
from components.model_server.engine.interface import Delta, Logprob, TokenLogprob
from components.model_server.http.responses.builder import Choice, ResponseBuilder


class CompletionBuilder(ResponseBuilder):
    """A text completion."""

    id_prefix, object_name, chunk_object_name = "cmpl", "text_completion", "text_completion"
    last_choice: ClassVar[Choice] = {"text": ""}

    def __init__(self, model_id: str, on_end: Callable[[Delta], None], **options: Any) -> None:
        super().__init__(model_id, on_end, **options)
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []
        # Of the next token within the text, in characters.
        self._offset, self._decoder = 0, TextStream()

    def add(self, delta: Delta) -> list[Choice]:
        """See ``ResponseBuilder``."""
        self._text += delta.text
        logprobs = self._columns(delta.logprobs)
        self._logprobs += [logprobs] if logprobs else []
        return [{"text": delta.text, "logprobs": logprobs}] if delta.text or logprobs else []

    def finish(self) -> list[Choice]:
        """See ``ResponseBuilder``."""
        return []

    def whole_choice(self) -> Choice:
        """See ``ResponseBuilder``."""
        keys = self._logprobs[0] if self._logprobs else ()
        together = {key: [one for part in self._logprobs for one in part[key]] for key in keys}
        return {"text": self._text, "logprobs": together or None}

    def _columns(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """OpenAI's older form: a list for each property of a token; ``text_offset`` is in characters of the answer."""
        if not logprobs:
            return None
        offsets = []
        for one in logprobs:
            offsets.append(self._offset)
            self._offset += len(self._decoder.feed(one.bytes))
        tops = [None if one.logprob is None else {_name(top): top.logprob for top in one.top} for one in logprobs]
        return {
            "tokens": list(map(_name, logprobs)),
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def _name(one: Logprob) -> str:
    """A token as OpenAI's older form names it: by its bytes where they are no whole characters."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in one.bytes) if "\ufffd" in one.text else one.text
