"""The grammar of answers that may, or must, call tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.model_server.guided_decoding.json_schema import as_followed
from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import Term
from components.model_server.tool_calls.format import ID, ID_LENGTH, CallFormat
from components.model_server.tool_calls.tool_use import ToolUse
from components.modeling.reasoning import CLOSE, OPEN

if TYPE_CHECKING:
    from components.model_server.guided_decoding.grammars import Grammars

MAX_CALLS = 16


def grammar_of(use: ToolUse, json_schema: str | None, grammars: Grammars, *, in_reasoning: bool = False) -> str:
    """A Lark grammar of llguidance's for the answers to a request with tools.

    Where the answer need not be a call, any text may come before one, or, with ``json_schema``, JSON in place of one.
    ``in_reasoning``: the answer begins within reasoning, in which nothing is called.

    Raises:
        SchemaError: the parameters of a tool cannot be followed.
    """
    form = use.call_format

    def term(text: str) -> str:
        return f" /[A-Za-z0-9]{{{ID_LENGTH}}}/ ".join(map(grammars.terms, text.split(ID)))

    lines = ["%llguidance {}"]
    calls = []
    for number, name in enumerate(use.callable_names):
        calls.append(f"call_{number}")
        arguments = f"arguments_{number}"
        lines.append(f"{calls[-1]}: {lark_string(name)} {term(form.middle)} {arguments}")
        lines.append(form.arguments.rule(arguments, use.parameters[name], f"tools: parameters of {name}", term))
    lines.append(f"call: {' | '.join(calls)}")
    between = form.between if use.parallel else None
    # Where each call has a head and a tail of its own, any text may stand between two optional calls.
    separate = between is not None and not use.must_call and form.tail != "" and between.startswith(form.tail)
    more = "" if between is None or separate else f"({term(between)} call){{0,{MAX_CALLS - 1}}}"
    lines.append(f"calls: call {more} {term(form.tail)}")
    if use.must_call:
        return "\n".join([*lines, f"start: {term(form.head)} calls"])
    if json_schema is not None:
        schema = as_followed(json_schema)
        return "\n".join([*lines, f"start: {term(form.head)} calls | answer", f"answer: %json {schema}"])
    rest = term(form.head.removeprefix(form.trigger))
    lines += [r"TEXT: /(.|\n)*/", *_text_before(form, term), f"called: trigger {rest} calls"]
    lines.append(f"answer: {'called* text' if separate else 'called | text'}")
    return "\n".join([*lines, *_reasoning(grammars, in_reasoning=in_reasoning), *_text(form, grammars)])


def _text_before(form: CallFormat, term: Term) -> list[str]:
    """The text before a call, with the trigger that begins the call."""
    trigger = term(form.trigger)
    if trigger.startswith("<"):
        return [f"trigger: text {trigger}"]
    return ["trigger: others until_trigger", f"until_trigger[lazy]: TEXT {trigger}"]


def _text(form: CallFormat, grammars: Grammars) -> list[str]:
    """Any text without tags of reasoning and without the trigger of a call."""
    others = grammars.other_tokens(form.trigger, OPEN, CLOSE)
    return [f"others: (TEXT {others})*" if others else 'others: ""', "text: others TEXT"]


def _reasoning(grammars: Grammars, *, in_reasoning: bool) -> list[str]:
    """The start rule: the answer, after reasoning where there is any."""
    opens, closes = grammars.terms(OPEN), grammars.terms(CLOSE)
    if closes.startswith("<"):
        reasoning = f"reasoning: text {closes}"
        if in_reasoning:
            return [reasoning, "start: reasoning answer | text"]
        return [reasoning, f"start: answer | {opens} reasoning answer | {opens} text"]
    if in_reasoning:
        return [f"reasoning[lazy]: TEXT {closes}", "start: reasoning answer | text"]
    return ["start: answer"]
