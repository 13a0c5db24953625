"""The token ids of what a request asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from components.artifacts.contracts import Message
from components.errors import RequestError
from components.model_server.engine.interface import Request
from components.modeling.chat_template import missing_calls

if TYPE_CHECKING:
    from components.gguf.model import GgufModel


def prompt_tokens(model: GgufModel, request: Request) -> list[int]:
    """The tokens of a request: a conversation as the model's template writes it, a text, or token ids as they are.

    Raises:
        ModelError: there is no template, or it refuses the conversation.
        RequestError: the template leaves out a tool call, or there is no such token.
    """
    prompt = request.prompt
    if isinstance(prompt, str):
        return model.tokenize(prompt, special=False, begin=True)
    messages = [message for message in prompt if isinstance(message, Message)]
    if not messages:
        tokens = [token for token in prompt if isinstance(token, int)]
        require_tokens(model, tokens, "prompt")
        return tokens
    tools = None if request.tools is None else request.tools.tools
    text = model.prompt(
        messages, tools=tools, template_kwargs=request.template_kwargs, add_generation_prompt=not request.continues
    )
    if request.continues:
        content = messages[-1].content.strip()
        begin = text.rfind(content)
        if begin < 0:
            raise RequestError("continue_final_message", "the chat template does not write the last message as it is")
        text = text[: begin + len(content)]
    _require_calls(messages, text)
    return model.tokenize(text, special=True)


def _require_calls(messages: Sequence[Message], text: str) -> None:
    for number, name in missing_calls(messages, text):
        raise RequestError(
            f"messages.{number}.tool_calls",
            f"this model's chat template does not support tool calls (the call of {name!r} would be lost); use a model "
            "whose template does, or leave the calls out",
        )


def require_tokens(model: GgufModel, tokens: Iterable[int], field: str) -> None:
    """Check that the model has all ``tokens``, which ``field`` of the request names.

    Raises:
        RequestError: it lacks one.
    """
    for token in tokens:
        if not 0 <= token < model.n_vocab:
            raise RequestError(field, f"there is no token {token}; this model has {model.n_vocab}")
