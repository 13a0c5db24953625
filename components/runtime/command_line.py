"""Running a command line: an error that the user can correct is printed as one line, a bug as a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

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
