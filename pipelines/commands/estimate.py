"""``lorry estimate``, and its line in ``lorry check`` and before ``lorry submit``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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
    from pipelines.estimate.calibration import Calibration
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
    document: Recipe | LoadedSweep,
    placement: Placement | None,
    workdir: Path,
    report: Callable[[str], None],
    *,
    calibration: Calibration | None = None,
    base: BaseModelRef | None = None,
) -> Estimate:
    """The estimate of a recipe or a sweep on the pools of ``placement``, or on this machine.

    ``calibration``: in place of that by the work folder's earlier runs. ``base``: the resolved base of a recipe.

    Raises:
        LorryError: base or data cannot be read from this machine.
    """
    from pipelines.estimate.earlier_runs import calibration_of
    from pipelines.estimate.estimate import estimate_run, estimate_sweep
    from pipelines.estimate.machines import place
    from pipelines.estimate.submitted import calibration_of_pool
    from pipelines.resolve.base_model import resolve_base

    bases: dict[tuple[str | None, ...], BaseModelRef] = {}

    def resolve(recipe: Recipe) -> tuple[Sections, BaseModelRef]:
        # The digest of large weights takes seconds, and most trials have one base.
        key = (recipe.base_model, recipe.base_revision, recipe.full_precision_base, recipe.full_precision_revision)
        if key not in bases:
            bases[key] = base or resolve_base(recipe, workdir, report)
        return recipe, bases[key]

    at = place(placement)
    if calibration is None:
        # Runs of this machine say nothing about the speed of a pool.
        if placement is None:
            calibration = calibration_of(workdir, report)
        else:
            calibration = calibration_of_pool(workdir, placement.pool, report)
    if isinstance(document, LoadedSweep):
        return estimate_sweep(document, resolve, at, calibration, workdir)
    sections, resolved = resolve(document)
    return estimate_run(document.name, sections, resolved, at, calibration, workdir)


def report_estimate(
    document: Recipe | LoadedSweep,
    placement: Placement | None,
    workdir: Path,
    report: Callable[[str], None],
    *,
    base: BaseModelRef | None = None,
) -> None:
    """Report the estimate in a line, with what cannot fit and what would; or one line that says why there is none.

    Nothing large is fetched for it: data of the hub is not read, nor a base that ``base`` does not give and that is no
    folder of this machine.
    """
    from pipelines.estimate.table import one_line

    recipes = [document] if isinstance(document, Recipe) else list(document.recipes.values())
    if away := next(_not_here(recipes, has_base=base is not None), None):
        report(f"not estimated: {away} would be fetched for it; lorry estimate does so")
        return
    try:
        found = estimate_of(document, placement, workdir, lambda line: None, base=base)
    except LorryError as error:
        report(f"not estimated: {error}")
        return
    report(one_line(found))
    for shortage in found.shortages:
        report(shortage.line)
    if found.fixes:
        report(f"what would fit: {'; or '.join(found.fixes)}")


def _not_here(recipes: Sequence[Recipe], *, has_base: bool) -> Iterator[str]:
    """The addresses that an estimate of ``recipes`` would fetch."""
    for recipe in recipes:
        if not has_base and not (recipe.base_model.startswith("/") and not is_made(recipe.base_model)):
            yield recipe.base_model
        yield from (source.data for source in recipe.split.all_sources if not source.data.startswith("/"))
