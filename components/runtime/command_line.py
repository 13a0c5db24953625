"""Running a command line: an error that the user can correct is printed as one line, a bug as a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, NoReturn, get_type_hints

import typer

from components.errors import LorryError
from components.runtime.parent_death import END_WITH_STDIN, call_on_parent_death


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line: exit code 1 and one line a problem for a LorryError, 130 after Ctrl-C, 2 for wrong usage."""
    if os.environ.get(END_WITH_STDIN):
        call_on_parent_death(lambda: os.kill(os.getpid(), signal.SIGTERM))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for client in ("httpx", "httpx2"):  # they log a line per request
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except LorryError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    sys.exit(0)


def run_command(command: Callable[..., Any]) -> NoReturn:
    """Run ``command`` as the only command of a command line, as its image does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_app(app)


def with_options(options_class: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that takes ``options``, an object of a dataclass: each field becomes an option of its own.

    The fields are annotated as typer reads parameters: ``port: Annotated[int, typer.Option(help="…")] = 8080``.
    """
    hints = get_type_hints(options_class, include_extras=True)
    added = {
        field.name: Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(options_class)
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for parameter in signature(command, eval_str=True).parameters.values()
            if parameter.name != "options"
        ]

        @wraps(command)
        def run(**values: Any) -> None:
            options = options_class(**{name: values.pop(name) for name in added})
            command(**values, options=options)

        parameters = [*own, *added.values()]
        # What typer reads of a function.
        run.__dict__["__signature__"] = Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
