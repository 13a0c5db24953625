"""A YAML document that a user writes: read with its line numbers, its problems described."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from components.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, kind: str, model: type[BaseModel]) -> CommentedMap:
    """The document at ``path``, with its line numbers; ``kind`` is what it should be, for the message.

    Raises:
        RecipeError: it is no YAML, or no mapping.
    """
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}: line {line}: not valid YAML ({error.problem})") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, CommentedMap):
        required = [name for name, field in model.model_fields.items() if field.is_required()]
        raise RecipeError(f"{path}: holds no {kind}; it must have the keys {', '.join(required)} at least")
    return document


def plain(node: Any) -> Any:
    """ruamel's containers and scalar types as Python's own."""
    if isinstance(node, CommentedMap):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def validated(path: Path, document: CommentedMap, model: type[Model]) -> Model:
    """The document at ``path`` as a model.

    Raises:
        RecipeError: one line of the message a problem, each with its YAML line and key.
    """
    try:
        return model.model_validate(plain(document))
    except ValidationError as error:
        problems = [_describe(detail, document, model) for detail in _first_of_each_key(error.errors(), document)]
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in problems)) from error


def _first_of_each_key(errors: Sequence[ErrorDetails], document: CommentedMap) -> list[ErrorDetails]:
    # A union reports each of its branches; the first is enough.
    first_of_key: dict[str, ErrorDetails] = {}
    for detail in errors:
        first_of_key.setdefault(_key_of(document, detail["loc"]), detail)
    return list(first_of_key.values())


def _describe(detail: ErrorDetails, document: CommentedMap, model: type[BaseModel]) -> str:
    key = _key_of(document, detail["loc"])
    line = line_of(document, detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"line {line}: {key}: unknown key{nearest(detail['loc'], model)}"
    if detail["type"] == "missing":
        return f"line {line}: {key}: missing; add it"
    if detail["type"] == "value_error" and isinstance(detail["input"], dict):
        return f"line {line}: {key}: {detail['msg'].removeprefix('Value error, ')}"
    described = _description(detail["loc"], model)
    hint = f" ({described})" if described else ""
    return f"line {line}: {key} = {detail['input']!r}: {_lower_first(detail['msg'])}{hint}"


def _key_of(document: CommentedMap, location: Sequence[int | str]) -> str:
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


def line_of(document: CommentedMap, location: Sequence[int | str]) -> int:
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


def fields_at(location: Sequence[int | str], model: type[BaseModel]) -> dict[str, Any]:
    """The fields beside the one at ``location``, itself included where it is known."""
    fields: dict[str, Any] = dict(model.model_fields)
    for part in location[:-1]:
        fields = _fields_of(fields[str(part)].annotation) if str(part) in fields else fields
    return fields


def _fields_of(annotation: Any) -> dict[str, Any]:
    """The fields of a section, or of each of a mapping's sections."""
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if isinstance(kind, type)]
    sections = [kind for kind in kinds if issubclass(kind, BaseModel)]
    return dict(sections[-1].model_fields) if sections else {}


def nearest(location: Sequence[int | str], model: type[BaseModel]) -> str:
    """What was probably meant by an unknown key, or the keys that are known."""
    fields = fields_at(location, model)
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(fields)}"


def _description(location: Sequence[int | str], model: type[BaseModel]) -> str:
    """What the deepest field on the way to ``location`` is for."""
    for end in range(len(location), 0, -1):
        if field := fields_at(location[:end], model).get(str(location[end - 1])):
            return str(field.description or "")
    return ""


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]


def location(key: str) -> list[int | str]:
    """The parts of a dotted key; a number is an index of a list."""
    return [int(part) if part.isdecimal() else part for part in key.split(".")]
