"""Write a comparison as a page, as Markdown and as JSON, all with the same figures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment
from ruamel.yaml import YAML

from components.compare_runs.chart import draw
from components.compare_runs.compare import Comparison
from components.compare_runs.report_table import table_of
from components.compare_runs.side_by_side import answer_speeds, side_by_side

FOLDER = Path(__file__).parent
PAGE, TABLE, CHART, DATA, RECIPE = "report.html", "report.md", "curves.png", "comparison.json", "best-recipe.yaml"
FIRST_KEYS = ("name", "description", "base_model", "split", "train", "evaluate", "export")


def write_reports(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write chart, page, Markdown and JSON into ``folder``, and the best recipe where it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(comparison, folder / CHART)
    (folder / DATA).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    picture = base64.b64encode((folder / CHART).read_bytes()).decode()
    for name, autoescape in ((PAGE, True), (TABLE, False)):
        (folder / name).write_text(_render(name, comparison, picture, autoescape=autoescape), encoding="utf-8")
    paths = {name: folder / name for name in (PAGE, TABLE, CHART, DATA)}
    if (recipe := best_recipe(comparison)) is not None:
        paths[RECIPE] = folder / RECIPE
        _write_recipe(paths[RECIPE], recipe)
    return paths


def _render(name: str, comparison: Comparison, picture: str, *, autoescape: bool) -> str:
    environment = Environment(autoescape=autoescape, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = _markdown_cell
    template = environment.from_string((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    text = template.render(
        comparison=comparison,
        tables=[(compared, *table_of(comparison, compared)) for compared in comparison.sets],
        answers=side_by_side(comparison.runs),
        speeds=answer_speeds(comparison.runs),
        picture=picture,
        chart=CHART,
    )
    return text.rstrip() + "\n"


def _markdown_cell(value: Any) -> str:
    """A value that neither ends the cell nor the line of a Markdown table."""
    return " ".join(str(value).split("\n")).replace("|", "\\|")


def best_recipe(comparison: Comparison) -> dict[str, Any] | None:
    """The recipe of the chosen run, or else of the first set's lowest loss; None where that run has no recipe."""
    chosen = comparison.choice.name if comparison.choice else None
    best = chosen or next((compared.best for compared in comparison.sets if compared.best), None)
    return None if best is None else comparison.run(best).recipe


def _write_recipe(path: Path, recipe: dict[str, Any]) -> None:
    ordered = {key: recipe[key] for key in (*FIRST_KEYS, *recipe) if key in recipe}
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(_whole_numbers(ordered), file)


def _whole_numbers(node: Any) -> Any:
    """``node`` with integers restored: KFP converts every number to a float."""
    if isinstance(node, dict):
        return {key: _whole_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole_numbers(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node
