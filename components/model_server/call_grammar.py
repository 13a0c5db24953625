"""A grammar of what a model that may call tools can say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from components.model_server.call_arguments import as_text
from components.model_server.call_format import ID, ID_LENGTH
from components.model_server.json_schema import as_followed

if TYPE_CHECKING:
    from components.model_server.engine import ToolUse

MAX_CALLS = 16


def grammar_of(use: ToolUse, json_schema: str | None, is_special: Callable[[int], bool]) -> str:
    """A Lark grammar of llguidance's: what an answer may say that uses tools.

    Where it need not call, any text may come before a call, or, with ``json_schema``, JSON in the place of it.
    ``is_special`` tells the tokens that no text matches.

    Raises:
        SchemaError: the parameters of a tool cannot be followed.
    """
    form = use.call_format

    def literal(text: str) -> str:
        return _literal(text, {token: name for token, name in form.specials.items() if is_special(token)})

    lines = ["%llguidance {}"]
    calls = []
    for number, name in enumerate(use.callable_names):
        calls.append(f"call_{number}")
        arguments = f"arguments_{number}"
        lines.append(f"{calls[-1]}: {as_text(name)} {literal(form.middle)} {arguments}")
        lines.append(form.arguments.rule(arguments, use.parameters[name], f"tools: parameters of {name}", literal))
    lines.append(f"call: {' | '.join(calls)}")
    between = form.between if use.several else None
    # Where each call has a head and a tail of its own, any text may stand between two that need not come.
    apart = between is not None and not use.must_call and form.tail != "" and between.startswith(form.tail)
    more = "" if between is None or apart else f"({literal(between)} call){{0,{MAX_CALLS - 1}}}"
    lines.append(f"calls: call {more} {literal(form.tail)}")
    if use.must_call:
        return "\n".join([*lines, f"start: {literal(form.head)} calls"])
    if json_schema is not None:
        schema = as_followed(json_schema)
        return "\n".join([*lines, f"start: {literal(form.head)} calls | answer", f"answer: %json {schema}"])
    rest = literal(form.head.removeprefix(form.trigger))
    trigger = literal(form.trigger)
    if trigger.startswith('"'):
        lines.append(f"trigger[lazy]: TEXT {trigger}")
        trigger = "trigger"
    else:
        trigger = f"TEXT {trigger}"
    lines.append(f"called: {trigger} {rest} calls")
    return "\n".join([*lines, f"start: {'called* TEXT' if apart else 'called | TEXT'}", r"TEXT: /(.|\n)*/"])


def _literal(text: str, specials: Mapping[int, str]) -> str:
    """A text as terms of a grammar: strings, special tokens by their number, and any id for an id."""
    named = {spelled: f"<[{token}]>" for token, spelled in specials.items()} | {ID: f"/[A-Za-z0-9]{{{ID_LENGTH}}}/"}
    parts = re.split("(" + "|".join(map(re.escape, sorted(named, key=len, reverse=True))) + ")", text)
    return " ".join(named.get(part) or as_text(part) for part in parts if part)
