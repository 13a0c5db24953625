"""How every command of Lorry ends: one line for what the user can mend, a traceback for a bug."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from components.errors import LorryError


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line: exit code 1 and one line a problem for a LorryError, 130 after Ctrl-C, 2 for wrong usage."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except LorryError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    sys.exit(0)


def run_command(command: Callable[..., Any]) -> NoReturn:
    """Run one command alone, as its image does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_app(app)
