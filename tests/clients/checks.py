"""What the scripts of all clients share: where the servers are, what is asked, and a line of JSON for each check.

Runs in the clients' environment, which has neither Lorry nor pytest.
"""

import asyncio
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field

# The same weights twice: with the model's own template, which knows no tools, and with one that does.
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


class Sent(logging.Handler):
    """Keeps the last request that the openai package logs."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if "Request options" in record.msg:
            self.last = record.getMessage()


def main() -> None:
    """Run the checks that the arguments name, or all; print what became of each."""
    sent = Sent()
    logging.getLogger("openai").setLevel(logging.DEBUG)
    logging.getLogger("openai").addHandler(sent)
    for function in CHECKS:
        if sys.argv[1:] and function.__name__ not in sys.argv[1:]:
            continue
        sent.last, detail = "", ""
        try:
            result = function()
            if inspect.isawaitable(result):
                asyncio.run(result)  # type: ignore[arg-type]
        except Exception:
            detail = f"sent: {sent.last[:2000]}\n{traceback.format_exc(limit=-4)[-3000:]}"
        print(json.dumps({"check": function.__name__, "ok": not detail, "detail": detail}), flush=True)
