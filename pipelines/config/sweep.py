"""The sweep: the document of the settings of a recipe to try."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml.comments import CommentedMap

from components.artifacts.contracts import Trial
from components.compare_runs.config import CompareConfig
from components.errors import RecipeError
from components.promote_trials.config import HalvingConfig
from components.train_lora.config import LOGGING_AND_SAVING, STOPPING
from pipelines.config.recipe import RECIPES, Recipe, folder_of, load_recipe, with_absolute_paths
from pipelines.config.recipe_inputs import with_overrides
from pipelines.config.steps import SECTIONS
from pipelines.config.yaml_document import fields_at, line_of, location, nearest, read_yaml, validated

# Keys whose settings change nothing of a trial: it splits, trains and is validated.
LATER = ("name", "description", "placement", *(section for section in SECTIONS if section not in ("split", "train")))
# What belongs to an address, and is another's where a trial sets that.
REVISIONS = {
    "base_model": ("base_revision", "full_precision_base", "full_precision_revision"),
    "full_precision_base": ("full_precision_revision",),
    "split.data": ("split.data_revision",),
}
# Of a trial's name, which is a folder's too; the contract allows a number more.
MAX_NAME = 100


class Sweep(BaseModel):
    """A recipe, and the settings to try in it: every combination of ``grid``, or each of ``trials``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="small letters, digits, '-' and '.'")]
    description: str = ""
    recipe: Annotated[str, Field(min_length=1, description="path of the recipe that is varied, from here")]
    set: Annotated[dict[str, Any], Field(description="settings of every trial, by dotted key of the recipe")] = {}
    grid: Annotated[
        dict[str, list[Any]], Field(description="values of each dotted key; every combination is tried")
    ] = {}
    trials: Annotated[list[dict[str, Any]], Field(description="settings of each trial; 'name' names it")] = []
    halving: Annotated[HalvingConfig | None, Field(description="stop poor trials early; None = all to the end")] = None
    compare: CompareConfig = CompareConfig()
    parallelism: Annotated[int, Field(gt=0, description="trials at a time on a cluster; one machine takes one")] = 4


class LoadedSweep(BaseModel):
    """A sweep whose recipes are checked, with the recipe of each trial by its name."""

    model_config = ConfigDict(frozen=True)

    sweep: Sweep
    base: Recipe
    settings: dict[str, dict[str, Any]]
    recipes: dict[str, Recipe]

    def publishing_to(self, store: str) -> LoadedSweep:
        """The same sweep with another store.

        Raises:
            RecipeError: it is the address of none.
        """
        recipes = {name: recipe.publishing_to(store) for name, recipe in self.recipes.items()}
        return self.model_copy(update={"base": self.base.publishing_to(store), "recipes": recipes})


def load_sweep(path: Path) -> LoadedSweep:
    """The sweep at ``path``, its trials made and their recipes checked.

    Raises:
        RecipeError: it cannot be used; one line a problem, each with its YAML line and key.
    """
    if not path.is_file():
        known = ", ".join(sorted(sweep.stem for sweep in (RECIPES / "sweeps").glob("*.yaml")))
        raise RecipeError(f"{path}: no such sweep file; shipped sweeps in {RECIPES / 'sweeps'}: {known}")
    document = read_yaml(path, "sweep", Sweep)
    if "base_model" in document:
        raise RecipeError(f"{path}: is a recipe, not a sweep; run it with: lorry run {path}")
    sweep = validated(path, document, Sweep)
    problems = list(_key_problems(document))
    if problems:
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in problems))
    base = load_recipe(path.parent / sweep.recipe)
    settings = _settings(sweep, path)
    recipes = {
        name: _recipe(path, name, base, own, partial(_line_of_setting, document, number))
        for number, (name, own) in enumerate(settings.items())
    }
    _require_different(path, recipes)
    return LoadedSweep(sweep=sweep, base=base, settings=settings, recipes=recipes)


def is_sweep(path: Path) -> bool:
    """Whether the document at ``path`` is a sweep, by its keys: it names a recipe, and is none."""
    return path.is_file() and "recipe" in (document := read_yaml(path, "sweep", Sweep)) and "base_model" not in document


def _line_of_setting(document: CommentedMap, number: int, key: str) -> int:
    """The YAML line at which the trial of a number sets a key."""
    ways: list[list[int | str]] = [["trials", number, key], ["grid", key], ["set", key]]
    for way in ways:
        section: Any = document.get(way[0])
        if section and key in (section[number] if way[0] == "trials" else section):
            return line_of(document, way)
    return 1


def _key_problems(document: CommentedMap) -> Sequence[str]:
    """A line for each key that is none of a recipe's, or that changes nothing a trial does."""
    ways: list[tuple[int | str, ...]] = [("set", key) for key in document.get("set") or {}]
    ways += [("grid", key) for key in document.get("grid") or {}]
    trials = document.get("trials") or []
    ways += [("trials", number, key) for number, trial in enumerate(trials) for key in trial if key != "name"]
    return [
        f"line {line_of(document, way)}: {way[-1]}: {problem}" for way in ways if (problem := _problem(str(way[-1])))
    ]


def _problem(key: str) -> str | None:
    way = location(key)
    if way[0] in LATER:
        return f"changes nothing that a sweep measures: trials split and train; set it in the recipe ({way[0]})"
    for end in range(1, len(way) + 1):
        if isinstance(way[end - 1], int):
            continue
        known = fields_at(way[:end], Recipe)
        if end == len(way) and way[end - 1] in known and _is_section(known[str(way[end - 1])].annotation):
            return "is a whole section, whose other settings would be lost; name one, such as train.learning_rate"
        if way[end - 1] not in known and not (end > 1 and isinstance(way[end - 2], int)):
            return f"unknown key{nearest(way[:end], Recipe)}"
    return None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _settings(sweep: Sweep, path: Path) -> dict[str, dict[str, Any]]:
    """What each trial sets, by its name."""
    if sweep.grid and sweep.trials:
        raise RecipeError(f"{path}: has both grid and trials; give one of them")
    empty = [key for key, values in sweep.grid.items() if not values]
    if not (sweep.grid or sweep.trials) or empty:
        what = f"grid.{empty[0]} has no values" if empty else "it has neither grid nor trials"
        raise RecipeError(
            f"{path}: a sweep of no runs: {what}; add some, such as grid: {{train.learning_rate: [1e-4, 3e-4]}}"
        )
    if sweep.grid:
        combinations = itertools.product(*sweep.grid.values())
        made = [dict(zip(sweep.grid, values, strict=True)) for values in combinations]
        named = _numbered([(_name(settings, sweep.grid), settings) for settings in made])
    else:
        own = [{key: value for key, value in trial.items() if key != "name"} for trial in sweep.trials]
        given = [trial.get("name") for trial in sweep.trials]
        named = [(str(name or _name(settings, settings)), settings) for name, settings in zip(given, own, strict=True)]
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"{path}: two trials are named {twice[0]!r}; give each a name of its own")
    return {name: {**sweep.set, **own} for name, own in named}


def _numbered(named: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Values that have one name, such as two files of one name in two folders, get their number in the grid."""
    names = [name for name, _ in named]
    return [
        (f"{name}-{number}" if names.count(name) > 1 else name, own)
        for number, (name, own) in enumerate(named, start=1)
    ]


def _name(settings: Mapping[str, Any], keys: Mapping[str, Any]) -> str:
    """A trial's name by what it sets, short and fit for a folder."""
    parts = [f"{key.rsplit('.', 1)[-1]}={_short(settings[key])}" for key in keys]
    return ",".join(parts)[:MAX_NAME] or "as-in-the-recipe"


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    kept = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in text.rsplit("/", 1)[-1])
    return kept[:40]


def _recipe(
    path: Path, name: str, base: Recipe, settings: Mapping[str, Any], line_of_key: Callable[[str], int]
) -> Recipe:
    forgotten = {key: None for address, keys in REVISIONS.items() if address in settings for key in keys}
    try:
        made = with_overrides(base, {**forgotten, **settings})
        Trial(name=name, settings=dict(settings), data=[], recipe={})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RecipeError(
            f"{path}: line {line_of_key(key)}: trial {name}: {key} = {first['input']!r}: {first['msg']}"
        ) from error
    except (KeyError, IndexError, TypeError) as error:
        raise RecipeError(
            f"{path}: trial {name}: {', '.join(settings)}: no such key in {base.name} ({error}); correct it"
        ) from error
    return with_absolute_paths(made, folder_of(path))


def _require_different(path: Path, recipes: Mapping[str, Recipe]) -> None:
    """Trials that take the same steps would share one folder of checkpoints."""
    same_steps: Any = {**dict.fromkeys(LATER, True), "train": LOGGING_AND_SAVING | STOPPING}
    seen: dict[str, str] = {}
    for name, recipe in recipes.items():
        twin = seen.setdefault(recipe.model_dump_json(exclude=same_steps), name)
        if twin != name:
            raise RecipeError(
                f"{path}: trials {twin!r} and {name!r} take the same steps, whatever they are called and wherever they "
                "end; leave one out, or set train.seed"
            )
