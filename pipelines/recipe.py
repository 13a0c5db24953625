"""The recipe: the one document a user writes, made of the components' own configs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from components.errors import RecipeError
from components.evaluate.config import EvaluateConfig
from components.evaluate_gguf.config import EvaluateGgufConfig
from components.export_gguf.config import ExportConfig
from components.gate.config import GateConfig
from components.publish_model.config import PublishConfig
from components.split_data.config import SplitConfig
from components.split_data.records import FILE_SUFFIXES, is_data_file
from components.split_data.sources import data_files
from components.train_lora.config import TrainConfig
from pipelines.addresses import DEMO_BASE, absolute
from pipelines.inputs import changed, inputs_of
from pipelines.pools import Placement

RECIPES = Path(__file__).parent / "recipes"


class Recipe(BaseModel):
    """Chat data, base model and settings of one fine-tuning run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="small letters, digits, '-' and '.'")]
    description: str = ""
    base_model: Annotated[
        str, Field(min_length=1, description=f"hub id, folder, or {DEMO_BASE} (made on the spot, for the demo)")
    ]
    base_revision: Annotated[str | None, Field(description="branch, tag or commit of a hub model")] = None
    full_precision_base: Annotated[
        str | None,
        Field(description="what the adapter merges into where base_model is published in 4 bits; None = its card says"),
    ] = None
    full_precision_revision: Annotated[str | None, Field(description="branch, tag or commit of a hub model")] = None
    split: SplitConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    evaluate_gguf: EvaluateGgufConfig = EvaluateGgufConfig()
    gate: GateConfig = GateConfig()
    publish: PublishConfig = PublishConfig()
    placement: Placement = Placement()

    @property
    def addresses(self) -> dict[str, str]:
        """Every address that the recipe names, by its key."""
        read = {given.key: given.address for given in inputs_of(self.split, self.evaluate)}
        written = {} if self.publish.store is None else {"publish.store": self.publish.store}
        full = {} if self.full_precision_base is None else {"full_precision_base": self.full_precision_base}
        return {"base_model": self.base_model, **full, **read, **written}

    def publishing_to(self, store: str) -> Recipe:
        """The same recipe with another store.

        Raises:
            RecipeError: it is the address of none.
        """
        try:
            return self.model_copy(update={"publish": PublishConfig(store=store)})
        except ValidationError as error:
            raise RecipeError(f"--store {store}: give s3://bucket/folder, gs://bucket/folder or pvc://claim") from error


def load_recipe(path: Path) -> Recipe:
    """The recipe at ``path``, with its relative paths made absolute from the recipe's own folder.

    Raises:
        RecipeError: it cannot be used; one line of the message a problem, each with its YAML line and key.
    """
    document = _read_yaml(path)
    try:
        recipe = Recipe.model_validate(_plain(document))
    except ValidationError as error:
        problems = [_in_words(detail, document) for detail in _worth_telling(error.errors(), document)]
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in problems)) from error
    recipe = _with_absolute_paths(recipe, path.absolute().parent)
    missing = [*_missing_files(recipe, document), *_what_cannot_be_measured(recipe, document)]
    if missing:
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in missing))
    return recipe


def _read_yaml(path: Path) -> CommentedMap:
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise RecipeError(f"{path}: no such recipe file; shipped recipes in {RECIPES}: {known}")
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}: line {line}: not valid YAML ({error.problem})") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, CommentedMap):
        raise RecipeError(f"{path}: holds no recipe; it must have the keys {', '.join(_required_keys())} at least")
    return document


def _plain(node: Any) -> Any:
    """ruamel's containers and scalar types as Python's own."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _required_keys() -> list[str]:
    return [name for name, field in Recipe.model_fields.items() if field.is_required()]


def _worth_telling(errors: Sequence[ErrorDetails], document: CommentedMap) -> list[ErrorDetails]:
    # A union reports each of its branches; the first says enough.
    told: dict[str, ErrorDetails] = {}
    for detail in errors:
        told.setdefault(_place(document, detail["loc"]), detail)
    return list(told.values())


def _in_words(detail: ErrorDetails, document: CommentedMap) -> str:
    place = _place(document, detail["loc"])
    line = _line_of(document, detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"line {line}: {place}: unknown key{_nearest(detail['loc'])}"
    if detail["type"] == "missing":
        return f"line {line}: {place}: missing; add it"
    if detail["type"] == "value_error" and isinstance(detail["input"], dict):
        return f"line {line}: {place}: {detail['msg'].removeprefix('Value error, ')}"
    described = _description(detail["loc"])
    hint = f" ({described})" if described else ""
    return f"line {line}: {place} = {detail['input']!r}: {_lower_first(detail['msg'])}{hint}"


def _place(document: CommentedMap, location: Sequence[int | str]) -> str:
    """The key that is meant, dotted: the branches of a union, which the document does not hold, left out."""
    named = [str(location[0])] if location else ["the recipe"]
    node: Any = document.get(location[0]) if location else document
    for part in location[1:]:
        if isinstance(node, CommentedMap):
            node = node.get(part)
        elif isinstance(node, CommentedSeq) and isinstance(part, int):
            node = node[part]
        else:
            break
        named.append(str(part))
    return ".".join(named)


def _line_of(document: CommentedMap, location: Sequence[int | str]) -> int:
    """The YAML line of the deepest part of ``location`` that the document holds, from 1."""
    node: Any = document
    line = 1
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def _fields_at(location: Sequence[int | str]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(Recipe.model_fields)
    for part in location[:-1]:
        fields = _fields_of(fields[str(part)].annotation) if str(part) in fields else fields
    return fields


def _fields_of(annotation: Any) -> dict[str, Any]:
    """The fields of a section, or of each of a mapping's sections."""
    section = get_args(annotation)[-1] if get_args(annotation) else annotation
    return dict(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else {}


def _nearest(location: Sequence[int | str]) -> str:
    fields = _fields_at(location)
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(fields)}"


def _description(location: Sequence[int | str]) -> str:
    """What the deepest field on the way to ``location`` is for."""
    for end in range(len(location), 0, -1):
        if field := _fields_at(location[:end]).get(str(location[end - 1])):
            return str(field.description or "")
    return ""


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    return changed(recipe, {key: absolute(address, folder) for key, address in recipe.addresses.items()})


def _missing_files(recipe: Recipe, document: CommentedMap) -> Iterator[str]:
    for key, address in recipe.addresses.items():
        if address.startswith("lorry:") and address != DEMO_BASE:
            yield f"line {_line_of(document, _location(key))}: {key} = {address!r}: unknown; did you mean {DEMO_BASE}?"
        if key == "publish.store" or not address.startswith("/"):
            continue
        told = f"line {_line_of(document, _location(key))}: {key} = {address!r}"
        path = Path(address)
        if not path.exists():
            yield f"{told}: no such file or folder, and not a hub id; mend the path"
        elif key.endswith(".data") and path.is_file() and not is_data_file(address):
            yield f"{told}: not one of {', '.join(FILE_SUFFIXES)}; convert the data first"
        elif key.endswith(".data") and path.is_dir() and not data_files(path):
            yield f"{told}: the folder holds no {', '.join(FILE_SUFFIXES)} file; name the one with the data"


def _what_cannot_be_measured(recipe: Recipe, document: CommentedMap) -> Iterator[str]:
    if recipe.gate.asks_for_answers and recipe.evaluate.prompts is None:
        key = "gate.max_seconds_per_answer"
        yield (
            f"line {_line_of(document, _location(key))}: {key} = {recipe.gate.max_seconds_per_answer!r}: no answer is "
            "measured without prompts; name a prompts file in evaluate.prompts, or leave the bound out"
        )


def _location(key: str) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in key.split(".")]
