"""Arguments of calls in the two forms that templates write: parsed whole, truncated, and as rules of a grammar."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from components.model_server.guided_decoding.json_schema import SchemaError
from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.elements import ElementArguments

JSON = JsonArguments()
# As Qwen3.5 writes them.
LINES = ElementArguments("<parameter=", ">\n", "\n</parameter>\n")
# As GLM writes them.
TAGS = ElementArguments("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "n": {"type": "integer"},
        "flag": {"type": ["boolean", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "list": {"type": "array"},
        "colour": {"$ref": "#/$defs/Colour"},
    },
    "required": ["text"],
    "$defs": {"Colour": {"enum": ["red", "blue"]}},
}


def elements(form: ElementArguments, **values: str) -> str:
    return "".join(f"{form.open}{key}{form.middle}{value}{form.close}" for key, value in values.items())


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"a": 1}</call>', '{"a": 1}'),
        (' \n{"a": {"b": "}"}} more', '{"a": {"b": "}"}}'),
        ("{}", "{}"),
        ('{"a": 1', None),
        ("[1]", None),
        ("5", None),
        ("", None),
        ('{"a": ' * 100_000, None),
    ],
    ids=lambda text: str(text)[:20],
)
def test_a_json_object_is_parsed_once_it_is_whole(text, parsed):
    found = JSON.parse(f"x{text}", 1, {})
    assert (found and found[0]) == parsed
    if found:
        assert f"x{text}"[: found[1]].endswith(parsed)


@pytest.mark.parametrize(("text", "parsed"), [(' {"a": 1', '{"a": 1'), ("", ""), ("  ", ""), ("5", None)])
def test_a_truncated_json_object_is_what_has_come(text, parsed):
    assert JSON.parse_truncated(f"x{text}", 1, {}) == parsed


@pytest.mark.parametrize("form", [LINES, TAGS])
@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("text", "two words", "two words"),
        ("text", "12", "12"),
        ("text", "null", "null"),
        ("text", '"quoted"', '"quoted"'),
        ("text", "<b>a</b>\nb", "<b>a</b>\nb"),
        ("text", "", ""),
        ("n", "12", 12),
        ("n", "many", "many"),
        ("n", "NaN", "NaN"),
        ("flag", "true", True),
        ("flag", "null", None),
        ("either", "null", None),
        ("either", "nothing", "nothing"),
        ("list", '["a", {"b": 1}]', ["a", {"b": 1}]),
        ("colour", "red", "red"),
        ("unknown", "5", 5),
    ],
)
def test_an_element_is_a_string_or_json_by_its_schema(form, key, written, value):
    text = f"{elements(form, **{key: written})}</function>"
    parsed = form.parse(text, 0, SCHEMA)
    assert parsed is not None
    assert json.loads(parsed[0]) == {key: value}
    assert text[parsed[1] :].strip() == "</function>"


@pytest.mark.parametrize("form", [LINES, TAGS])
def test_elements_are_whole_only_when_no_other_may_begin(form):
    text = elements(form, text="a", n="1")
    for end in range(len(text) + 1):
        assert form.parse(text[:end], 0, SCHEMA) is None
    for end in range(1, len(form.open)):
        assert form.parse(text + form.open[:end], 0, SCHEMA) is None
    assert form.parse(f"{text}</function>", 0, SCHEMA) is not None


@pytest.mark.parametrize("form", [LINES, TAGS])
def test_truncated_elements_are_those_that_are_whole(form):
    text = elements(form, text="a", n="1")
    one = len(elements(form, text="a").rstrip())
    seen = [json.loads(form.parse_truncated(text[:end], 0, SCHEMA) or "null") for end in range(len(text) + 1)]
    assert seen[0] == {}
    assert seen[one] == {"text": "a"}
    assert seen[-1] == {"text": "a", "n": 1}


@pytest.mark.parametrize("form", [LINES, TAGS])
@pytest.mark.parametrize("seed", range(20))
def test_strings_of_any_characters_come_back(form, seed):
    draw = random.Random(seed)
    text = "".join(
        draw.choice(["a", " ", "<", ">", "/", '"', "\\", "é", "{", "\n", "\ud800"]) for _ in range(12)
    ).strip()
    parsed = form.parse(f"{elements(form, text=text)}</function>", 0, SCHEMA)
    assert parsed is not None
    assert json.loads(parsed[0]) == {"text": text}
    parsed[0].encode()


def test_the_form_is_cut_out_of_what_a_template_writes_behind_a_name():
    before = ">\n"
    text = before + elements(LINES, lorrykey="lorryvalue", lorryother="lorrythat") + "</function>"
    assert ElementArguments.cut(text) == (before, LINES, "</function>")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(lorrykey=lorryvalue, lorryother=lorrythat)",
        "<a>lorrykey</a><b>lorryvalue</b>",
        '<p name="lorrykey" string="true">lorryvalue</p><p name="lorryother" string="true">lorrythat</p>',
        "<a>lorrykey</a><b>lorryvalue</b><a>lorryother</a><c>lorrythat</b>",
    ],
)
def test_another_form_is_not_taken_for_elements(text):
    assert ElementArguments.cut(text) is None


def rule(form: Any, parameters: dict[str, Any]) -> str:
    return str(form.rule("a", parameters, "tools: parameters of f", lark_string))


def test_a_rule_of_json_arguments_is_their_schema():
    assert rule(JSON, SCHEMA).startswith("a: %json {")
    assert '"type": "object"' in rule(JSON, {})


def test_a_rule_of_elements_has_them_in_order_and_optional_ones_marked():
    first, *rest = rule(TAGS, SCHEMA).splitlines()
    assert first == "a: a_0 a_1? a_2? a_3? a_4? a_5?"
    rules = {line.split(":")[0].removesuffix("[lazy]"): line for line in rest}
    assert "a_0_text" in rules["a_0"]
    assert "%json" in rules["a_1"]
    assert '("red" | "blue")' in rules["a_5"]
    assert rule(TAGS, {}) == 'a: ""'


def test_required_properties_without_a_schema_are_elements_too():
    assert rule(TAGS, {"type": "object", "required": ["x"]}).startswith("a: a_0\n")


def test_properties_of_all_of_are_joined():
    schema = {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}, "required": ["b"]}]}
    assert rule(TAGS, schema).startswith("a: a_0? a_1\n")


@pytest.mark.parametrize("form", [JSON, TAGS])
@pytest.mark.parametrize("parameters", [{"$ref": "http://127.0.0.1/x"}, {"enum": ["x" * 20_000]}])
def test_a_schema_that_cannot_be_followed_is_an_error_of_the_tools(form, parameters):
    with pytest.raises(SchemaError, match="tools: parameters of f") as refused:
        rule(form, {"type": "object", "properties": {"x": parameters}})
    assert refused.value.field == "tools"
