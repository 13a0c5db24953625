"""``--no-reuse``: steps that run although nothing that they depend on has changed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from components.errors import RecipeError

ALL = "all"

NoReuse = Annotated[
    str | None,
    typer.Option(
        "--no-reuse",
        metavar="[STEP,…]",
        help="run every step anew, or the named ones alone, such as --no-reuse train_lora,export_gguf",
    ),
]


class CommandWithNoReuse(TyperCommand):
    """A command whose ``--no-reuse`` may stand without a value, which Typer's own options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's, with the value written out."""
        given: list[str] = []
        for argument, following in zip(args, [*args[1:], ""], strict=True):
            given.append(argument)
            # What follows is a value unless it is another flag, or the document.
            if argument == "--no-reuse" and (not following or following.startswith("-") or Path(following).exists()):
                given.append(ALL)
        return super().parse_args(ctx, given)


def steps_without_reuse(given: str | None, steps: Sequence[str]) -> tuple[str, ...]:
    """The steps that ``--no-reuse`` names, of a pipeline's.

    Raises:
        RecipeError: there is no such step.
    """
    if given is None:
        return ()
    names = tuple(name.strip().replace("-", "_").lower() for name in given.split(",") if name.strip())
    if not names:
        raise RecipeError(f"--no-reuse: names no step; the steps are {', '.join(steps)}")
    if ALL in names:
        return tuple(steps)
    return tuple(step_named(name, steps, "--no-reuse") for name in names)


def step_named(given: str, steps: Sequence[str], option: str) -> str:
    """The step that a user means by a name, of a pipeline's; ``option`` is where it was given.

    Raises:
        RecipeError: there is no such step.
    """
    name = given.strip().replace("-", "_").lower()
    if name not in steps:
        close = difflib.get_close_matches(name, steps, n=1)
        meant = f"did you mean {close[0]}?" if close else f"the steps are {', '.join(steps)}"
        raise RecipeError(f"{option} {name}: no such step; {meant}")
    return name
