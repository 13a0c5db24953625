"""A grammar of what a model that may call tools can say."""

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


def grammar_of(use: ToolUse, json_schema: str | None, grammars: Grammars, *, in_thoughts: bool = False) -> str:
    """A Lark grammar of llguidance's: what an answer may say that uses tools.

    Where it need not call, any text may come before a call, or, with ``json_schema``, JSON in the place of it.
    ``in_thoughts``: the answer begins within thoughts, in which nothing is called.

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
    # Where each call has a head and a tail of its own, any text may stand between two that need not come.
    apart = between is not None and not use.must_call and form.tail != "" and between.startswith(form.tail)
    more = "" if between is None or apart else f"({term(between)} call){{0,{MAX_CALLS - 1}}}"
    lines.append(f"calls: call {more} {term(form.tail)}")
    if use.must_call:
        return "\n".join([*lines, f"start: {term(form.head)} calls"])
    if json_schema is not None:
        schema = as_followed(json_schema)
        return "\n".join([*lines, f"start: {term(form.head)} calls | answer", f"answer: %json {schema}"])
    rest = term(form.head.removeprefix(form.trigger))
    lines += [r"TEXT: /(.|\n)*/", *_text_before(form, term), f"called: trigger {rest} calls"]
    lines.append(f"answer: {'called* text' if apart else 'called | text'}")
    return "\n".join([*lines, *_thoughts(grammars, in_thoughts=in_thoughts), *_text(form, grammars)])


def _text_before(form: CallFormat, term: Term) -> list[str]:
    """What begins a call, with the text before it."""
    trigger = term(form.trigger)
    if trigger.startswith("<"):
        return [f"trigger: text {trigger}"]
    return ["trigger: others heard", f"heard[lazy]: TEXT {trigger}"]


def _text(form: CallFormat, grammars: Grammars) -> list[str]:
    """Any text but thoughts, and what begins a call."""
    others = grammars.other_tokens(form.trigger, OPEN, CLOSE)
    return [f"others: (TEXT {others})*" if others else 'others: ""', "text: others TEXT"]


def _thoughts(grammars: Grammars, *, in_thoughts: bool) -> list[str]:
    """The start of the answer: behind thoughts, where it has them."""
    opens, closes = grammars.terms(OPEN), grammars.terms(CLOSE)
    if closes.startswith("<"):
        thoughts = f"thoughts: text {closes}"
        if in_thoughts:
            return [thoughts, "start: thoughts answer | text"]
        return [thoughts, f"start: answer | {opens} thoughts answer | {opens} text"]
    if in_thoughts:
        return [f"thoughts[lazy]: TEXT {closes}", "start: thoughts answer | text"]
    return ["start: answer"]
