"""A comparison for people: the same figures as a page, as Markdown and as JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment

from components.compare_runs.chart import draw
from components.compare_runs.compare import ComparedSet, Comparison
from components.compare_runs.runs import Answer, ComparedRun
from components.modeling.token_loss import perplexity_of

FOLDER = Path(__file__).parent
PAGE, TABLE, CHART, DATA, RECIPE = "report.html", "report.md", "curves.png", "comparison.json", "best-recipe.yaml"
FOR_PAGES = ("trainable", "hardware", "perplexity", "tokens/s", "size")
FIRST_KEYS = ("name", "description", "base_model", "split", "train", "evaluate", "export")
# Columns whose every cell is empty are left out.
COLUMNS = (
    "run", "outcome", "base", "data", "steps", "learning rate", "rank", "alpha", "trainable", "hardware", "loss",
    "vs first", "perplexity", "minutes", "tokens/s", "size",
)  # fmt: skip


def write_reports(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write picture, page, Markdown and JSON into ``folder``, and the best recipe where one is known."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(comparison, folder / CHART)
    (folder / DATA).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    picture = base64.b64encode((folder / CHART).read_bytes()).decode()
    for name, escapes in ((PAGE, True), (TABLE, False)):
        environment = Environment(autoescape=escapes, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
        text = template.render(
            comparison=comparison,
            tables=[(compared, *table_of(comparison, compared)) for compared in comparison.sets],
            prompts=_side_by_side(comparison),
            averages=_averages(comparison),
            picture=picture,
            chart=CHART,
        )
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")
    made = {name: folder / name for name in (PAGE, TABLE, CHART, DATA)}
    if (recipe := best_recipe(comparison)) is not None:
        _write_yaml(folder / RECIPE, recipe)
        made[RECIPE] = folder / RECIPE
    return made


def best_recipe(comparison: Comparison) -> dict[str, Any] | None:
    """The recipe of the chosen run, or else of the first set's lowest loss; None where the run came without one."""
    chosen = comparison.choice.name if comparison.choice else None
    best = chosen or next((compared.best for compared in comparison.sets if compared.best), None)
    return None if best is None else comparison.run(best).recipe


def table_of(
    comparison: Comparison, compared: ComparedSet, *, brief: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one set, all as text; a column that no run has a value for is left out.

    ``brief`` is for a terminal: only what differs between runs.
    """
    rows = [_cells(comparison, compared, comparison.run(name)) for name in compared.runs]
    least = 1 if brief and len(rows) > 1 else 0
    kept = [
        place
        for place, name in enumerate(COLUMNS)
        if any(row[place] for row in rows)
        and (place == 0 or len({row[place] for row in rows}) > least)
        and not (brief and name in FOR_PAGES)
    ]
    return [COLUMNS[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _cells(comparison: Comparison, compared: ComparedSet, run: ComparedRun) -> list[str]:
    minutes = comparison.config.at_minutes
    loss = run.loss if minutes is None else run.within(minutes).loss
    improvement = compared.improvements.get(run.name)
    return [
        run.name,
        _outcome(run),
        run.base_model.rsplit("/", 1)[-1],
        _short(run.data),
        str(run.steps),
        _told(run.settings.get("learning_rate"), lambda value: f"{value:g}"),
        _told(run.settings.get("lora_rank"), str),
        _told(run.settings.get("lora_alpha"), str),
        _told(run.trainable_parameters, lambda value: f"{value / 1e6:.2f} M"),
        run.hardware or "",
        _told(loss, lambda value: f"{value:.4f}"),
        _told(improvement, lambda value: f"{-100 * value:+.1f} %"),
        "" if run.loss_kind == "training" else _told(loss, lambda value: f"{perplexity_of(value):.3f}"),
        _told(run.minutes, lambda value: f"{value:.1f}"),
        _told(run.tokens_per_second, lambda value: f"{value:.0f}"),
        _told(run.figures.get("size_bytes"), lambda value: f"{value / 1e6:.1f} MB"),
    ]


def _short(data: str) -> str:
    """Addresses without their folders; the id of a hub data set as it is."""
    return ", ".join(one.rsplit("/", 1)[-1] if one.startswith("/") or "://" in one else one for one in data.split(", "))


def _told(value: Any, in_words: Callable[[Any], str]) -> str:
    return "" if value is None else in_words(value)


def _outcome(run: ComparedRun) -> str:
    if run.status != "finished":
        return run.status.replace("_", " ")
    return "not continued" if run.stopped_early else ""


def _labels(comparison: Comparison) -> dict[tuple[str, str], str]:
    """The columns of answers: each run's models; a base that several runs share stands once."""
    labels: dict[tuple[str, str], str] = {}
    bases: set[str] = set()
    for run in comparison.runs:
        for model in dict.fromkeys(answer.model for answer in run.answers):
            if model != "base":
                labels[run.name, model] = f"{run.name}, {model}"
            elif run.base_model not in bases:
                bases.add(run.base_model)
                labels[run.name, model] = f"{run.base_model.rsplit('/', 1)[-1]}, untuned"
    return labels


def _side_by_side(comparison: Comparison) -> dict[str, Any]:
    """Turns by prompt, and each model's answer to each."""
    labels = _labels(comparison)
    turns: dict[tuple[str, str], dict[str, Answer]] = {}
    for run in comparison.runs:
        for answer in run.answers:
            if (label := labels.get((run.name, answer.model))) is not None:
                turns.setdefault((answer.prompt, answer.turn), {})[label] = answer
    return {"labels": list(labels.values()), "turns": turns}


def _averages(comparison: Comparison) -> list[tuple[str, int, float, float]]:
    """Label, answers, mean seconds an answer and tokens a second of each model."""
    averages = []
    for (name, model), label in _labels(comparison).items():
        own = [answer for answer in comparison.run(name).answers if answer.model == model]
        seconds = sum(answer.seconds for answer in own)
        averages.append((label, len(own), seconds / len(own), sum(a.n_tokens for a in own) / max(seconds, 1e-9)))
    return averages


def _write_yaml(path: Path, recipe: dict[str, Any]) -> None:
    from ruamel.yaml import YAML

    ordered = {key: recipe[key] for key in (*FIRST_KEYS, *recipe) if key in recipe}
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(_whole_numbers(ordered), file)


def _whole_numbers(node: Any) -> Any:
    """KFP makes every number a float on its way."""
    if isinstance(node, dict):
        return {key: _whole_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole_numbers(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node
