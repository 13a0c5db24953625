"""``lorry estimate``, and its line in ``lorry check`` and before ``lorry submit``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.errors import LorryError, RecipeError
from pipelines.commands.options import DEFAULT_WORKDIR, WorkdirPath
from pipelines.config.addresses import is_made
from pipelines.config.pools import Placement
from pipelines.config.recipe import Recipe, load_recipe
from pipelines.config.steps import Sections
from pipelines.config.sweep import LoadedSweep, is_sweep, load_sweep

if TYPE_CHECKING:
    from components.artifacts.contracts import BaseModelRef
    from pipelines.estimate.estimate import Estimate

console = Console()

Document = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe or a sweep (YAML)")]
EstimatedPool = Annotated[
    str | None,
    typer.Option("--pool", help="on a cluster: where training runs (t4, a100, cpu, your own); default: this machine"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object, for a program")]


def estimate(
    recipe: Document, pool: EstimatedPool = None, as_json: AsJson = False, workdir: WorkdirPath = DEFAULT_WORKDIR
) -> None:
    """What a run would take: peak memory, files, minutes of each step, cost; nothing runs.

    Exit status 1 when it cannot fit; the last line then says what would.
    """
    from pipelines.estimate import table

    messages = Console(stderr=True)
    report: Callable[[str], None] = lambda line: messages.print(f"  {line}", markup=False, highlight=False)  # noqa: E731
    document = load_sweep(recipe) if is_sweep(recipe) else load_recipe(recipe)
    placement = None if pool is None else _placement(document).on(pool)
    found = estimate_of(document, placement, workdir.absolute(), report)
    if as_json:
        # Not through rich, which would break long lines.
        typer.echo(json.dumps(table.as_json(found), indent=2))
    else:
        table.show_estimate(console, found)
    if not found.fits:
        raise RecipeError(table.refusal(found))


def _placement(document: Recipe | LoadedSweep) -> Placement:
    return document.placement if isinstance(document, Recipe) else document.base.placement


def estimate_of(
    document: Recipe | LoadedSweep, placement: Placement | None, workdir: Path, report: Callable[[str], None]
) -> Estimate:
    """The estimate of a recipe or a sweep on the pools of ``placement``, or on this machine.

    Raises:
        LorryError: base or data cannot be read from this machine.
    """
    from pipelines.estimate.calibration import Calibration
    from pipelines.estimate.earlier_runs import calibration_of
    from pipelines.estimate.estimate import estimate_run, estimate_sweep
    from pipelines.estimate.machines import place
    from pipelines.resolve.base_model import resolve_base

    def resolve(recipe: Recipe) -> tuple[Sections, BaseModelRef]:
        return recipe, resolve_base(recipe, workdir, report)

    at = place(placement)
    # Runs of this machine say nothing about the speed of a pool.
    calibration = calibration_of(workdir, report) if placement is None else Calibration()
    if isinstance(document, LoadedSweep):
        return estimate_sweep(document, resolve, at, calibration, workdir)
    sections, base = resolve(document)
    return estimate_run(document.name, sections, base, at, calibration, workdir)


def estimate_line(
    document: Recipe | LoadedSweep, placement: Placement | None, workdir: Path, *, may_fetch: bool
) -> list[str]:
    """The estimate in a line, with what cannot fit and what would; or one that says why there is none.

    Without ``may_fetch`` a base model that is not on this machine is not brought here.
    """
    from pipelines.estimate.table import one_line

    recipes = [document] if isinstance(document, Recipe) else list(document.recipes.values())
    if not may_fetch and (away := next((one.base_model for one in recipes if not _is_folder(one.base_model)), None)):
        return [f"not estimated: {away} is not read here; lorry estimate reads it"]
    try:
        found = estimate_of(document, placement, workdir, lambda line: None)
    except LorryError as error:
        return [f"not estimated: {error}"]
    fixes = [f"what would fit: {'; or '.join(found.fixes)}"] if found.fixes else []
    return [one_line(found), *(shortage.line for shortage in found.shortages), *fixes]


def _is_folder(address: str) -> bool:
    return address.startswith("/") and not is_made(address)
