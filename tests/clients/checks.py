"""What the scripts of all clients share: the servers' addresses, the questions, and a line of JSON for each check.

Runs in the clients' environment, which has neither Lorry nor pytest.
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field

# The same weights twice: with the model's own template, which does not support tools, and with one that does.
PLAIN = os.environ.get("LORRY_PLAIN", "")
TOOLS = os.environ.get("LORRY_TOOLS", "")
KEY = os.environ.get("LORRY_KEY", "")
MODEL = "smol"

E = TypeVar("E", bound=Exception)

QUESTION, AGAIN = "What is 2+2?", "And 3+3?"
WEATHER_QUESTION = "What is the weather in Paris, in degrees Celsius?"
TOO_LONG = "word " * 9000


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Berlin"]
    degrees: Annotated[int, Field(ge=-20, le=40)]


# The clients read the annotations at run time: they must not be strings.
def get_weather(city: Literal["Paris", "Berlin"], unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    return f"12 degrees {unit} in {city}"


def refused(kind: type[E], ask: Callable[[], object]) -> E:
    """The error of ``kind`` that ``ask`` raises."""
    try:
        answer = ask()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} but {answer}")


Check = Callable[[], Any]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """A check is a function, or a coroutine function, that raises when the client does not get what it should."""
    CHECKS.append(function)
    return function


def record_requests(kept: list[str]) -> None:
    """Append every request of httpx and httpx2, which all clients here use, to ``kept``: a failure shows the last."""

    def keeping(send: Callable[..., Any]) -> Callable[..., Any]:
        def keep_and_send(client: Any, request: Any, **more: Any) -> Any:
            kept.append(f"{request.method} {request.url} {request.content.decode()[:2000]}")
            return send(client, request, **more)

        return keep_and_send

    for library in filter(find_spec, ("httpx", "httpx2")):
        for kind in (import_module(library).Client, import_module(library).AsyncClient):
            kind.send = keeping(kind.send)


def main() -> None:
    """Run the checks that the arguments name, or all; print the result of each."""
    sent: list[str] = []
    record_requests(sent)
    for function in CHECKS:
        if sys.argv[1:] and function.__name__ not in sys.argv[1:]:
            continue
        detail = ""
        sent.clear()
        try:
            result = function()
            if inspect.isawaitable(result):
                asyncio.run(result)  # type: ignore[arg-type]
        except Exception:
            detail = "\n".join([traceback.format_exc(limit=-4)[-3000:], "sent last:", *sent[-1:]])
        print(json.dumps({"check": function.__name__, "ok": not detail, "detail": detail}), flush=True)
