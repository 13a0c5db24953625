"""What the tests of the protocol share: a request as the engine would get it."""

from __future__ import annotations

from typing import Any

from components.artifacts.contracts import GenerationDefaults
from components.model_server.engine.interface import Request
from components.model_server.http.protocol.chat_completion import ChatCompletionRequest
from components.model_server.http.served_model import ServedModel
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.modeling.chat_template import Edges

USER = {"role": "user", "content": "Hi"}
FORMAT = CallFormat("<call>", ":", JsonArguments(), None, "</call>", {})
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
OTHER = {"type": "function", "function": {"name": "subtract"}}


def served(call_format: CallFormat | None = None) -> ServedModel:
    return ServedModel("m", (), GenerationDefaults(), (), {}, lambda _: False, Edges(), call_format)


def asked(*, call_format: CallFormat | None = None, **fields: Any) -> Request:
    body = {"model": "m", "messages": [USER], **fields}
    return ChatCompletionRequest.model_validate(body).to_engine("", served(call_format))
