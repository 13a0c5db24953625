"""Ten thousand rows of mixed and hostile formats: each is kept whole, or dropped with its file, line and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts.contracts import BaseModelRef, Row
from components.modeling.base_model import folder_revision, load_tokenizer
from components.modeling.chat_template import template_of
from components.modeling.supervision import examples_of
from components.split_data.config import SplitConfig
from tests.conftest import SplitResult, chat, split_data

ROWS, FILES = 100, 100
# Demands that user and assistant take turns, and knows tools and thoughts.
TEMPLATE = (
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}"
    "{% if loop.index0 > 0 and m.role == messages[loop.index0 - 1].role %}{{ raise_exception('no turns') }}{% endif %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>' }}"
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>' }}{% endif %}"
)

plain = st.text("abcdefghij \n<>€é你🙂", min_size=3, max_size=60).filter(str.strip)
odd = ["<think>hm</think>so", "<think>open", "<|eot_id|>", "{{ 7 }}", "\ud800", "a\0b", "  x  ", "\n", "x" * 3000]
words = plain | st.text(max_size=40) | st.sampled_from(odd)
nonsense = st.sampled_from([None, 5, 0.5, True, [], {}, [[]], {"a": {}}, float("nan"), 10**30])
part = st.fixed_dictionaries({"type": st.sampled_from(["text", "output_text", "image"])}, optional={"text": words})
parts = st.lists(part | words, max_size=3)
function = st.fixed_dictionaries(
    {"name": words | nonsense},
    optional={"arguments": st.sampled_from(['{"a": 1}', "{", "", {"a": "b"}, None, 5]), "parameters": nonsense},
)
call = st.fixed_dictionaries({}, optional={"id": words, "type": st.just("function"), "function": function | nonsense})
turn = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "robot", "developer", 7, None]),
        "from": st.sampled_from(["human", "gpt", "system"]),
        "content": words | words | parts | nonsense,
        "value": words,
        "weight": st.sampled_from([0, 1, 0.5, None, "1", True]),
        "reasoning_content": words | nonsense,
        "tool_calls": st.lists(call, max_size=2) | nonsense,
        "refusal": st.none() | words,
        "timestamp": nonsense,
    },
)
exchanges = st.lists(st.tuples(plain, plain), min_size=1, max_size=3)
sane = exchanges.map(lambda pairs: chat(*(text for pair in pairs for text in pair))["messages"])
with_a_call = st.tuples(plain, st.text("abc", min_size=1, max_size=5), plain).map(
    lambda three: [
        {"role": "user", "content": [{"type": "text", "text": three[0]}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": three[1], "arguments": "{}"}}]},
        {"role": "tool", "content": three[2]},
        {"role": "assistant", "content": three[2], "reasoning_content": three[0], "weight": 1},
    ]
)
mixed = st.tuples(sane, st.lists(turn, max_size=2)).map(lambda two: two[0] + two[1])
turns = sane | with_a_call | mixed | st.lists(turn, max_size=5)
record = st.fixed_dictionaries(
    {},
    optional={
        "messages": turns | nonsense | turns.map(lambda given: json.dumps(given)),
        "conversations": turns,
        "system": words | nonsense,
        "tools": st.lists(call, max_size=2) | nonsense | words,
        "images": nonsense,
        "score": nonsense,
    },
)
# Three of four rows have messages.
line = st.one_of(
    record.map(json.dumps), *[turns.map(lambda given: json.dumps({"messages": given}))] * 3,
    st.sampled_from(["{", "[]", "null", "5", '"text"', "[" * 50_000, '{"messages": [}', "\x00\x01"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_base, tmp_path_factory) -> BaseModelRef:
    folder = tmp_path_factory.mktemp("alternating") / "base"
    folder.mkdir()
    for path in tiny_base.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=0)


n_rows = {"kept": 0, "dropped": 0}


@settings(max_examples=FILES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(
    lines=st.lists(line, min_size=ROWS, max_size=ROWS),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
)
def test_every_row_is_kept_whole_or_dropped_with_its_reason(base, tmp_path_factory, lines, encoding):
    folder = tmp_path_factory.mktemp("hostile")
    good = [json.dumps(chat(f"Question {i}?", f"Answer {'xyz'[i] * 9}.")) for i in range(3)]
    text = "".join(f"{one}\n" for one in [*good, *lines])
    (folder / "rows.jsonl").write_bytes(text.encode(encoding))
    given_settings = {"data": str(folder / "rows.jsonl"), "format": "messages", "validation_rows": 1}
    config = SplitConfig.model_validate({**given_settings, "base_model": base.model_dump()})
    result = split_data(folder / "split", config)
    rows = {row.id: row for name in ("train", "validation") for row in result.rows(name)}
    outcomes = {row["line"]: row for row in result.outcomes()}
    assert sorted(outcomes) == list(range(1, len(good) + ROWS + 1))
    for number, raw in enumerate([*good, *lines], start=1):
        row = outcomes[number]
        assert row["file"] == "rows.jsonl"
        if row["outcome"] == "dropped":
            assert row["reason"]
            assert row["kind"]
        else:
            require_whole(json.loads(raw), rows[row["id"]])
        n_rows["dropped" if row["outcome"] == "dropped" else "kept"] += 1
    require_trainable(base, result)


def require_whole(raw: dict[str, Any], row: Row) -> None:
    """Everything that the record says is in the row."""
    given_turns = raw["messages"] if isinstance(raw["messages"], list) else json.loads(raw["messages"])
    written = [json.dumps(message.model_dump()) for message in row.messages]
    contents = iter(written if len(written) == len(given_turns) else [" ".join(written)] * len(given_turns))
    for given_turn in given_turns:
        content = next(contents)
        for text in texts_of(given_turn):
            assert json.dumps(text.strip())[1:-1] in content, (text, row)
    weights = [int(one["weight"]) for one in given_turns if assistant_weight(one) is not None]
    assert weights == [message.weight for message in row.messages if message.weight is not None]
    for key in ("tools",):
        assert bool(raw.get(key)) == bool(row.tools) or str(raw[key]).strip() in ("", "[]")


def texts_of(given_turn: dict[str, Any]) -> Iterator[str]:
    content = given_turn.get("content", given_turn.get("value"))
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else []:
        yield part if isinstance(part, str) else part["text"]
    is_assistant = given_turn.get("role", given_turn.get("from")) in ("assistant", "gpt")
    if is_assistant and isinstance(given_turn.get("reasoning_content"), str):
        yield given_turn["reasoning_content"]
    for one in (given_turn.get("tool_calls") or []) if is_assistant else []:
        yield (one.get("function") or one)["name"]


def assistant_weight(given_turn: dict[str, Any]) -> Any:
    is_assistant = given_turn.get("role", given_turn.get("from")) in ("assistant", "gpt")
    return given_turn.get("weight") if is_assistant else None


def require_trainable(base: BaseModelRef, result: SplitResult) -> None:
    """No row that the split kept stops, or is left out of, the training."""
    tokenizer = load_tokenizer(base)
    for name in ("train", "validation"):
        examples, refused = examples_of(base, tokenizer, template_of(tokenizer, ""), result.rows(name))
        assert refused == {}
        assert all(own and all(example.n_supervised for example in own) for own in examples)


def test_both_ends_were_met():
    """The rows above are neither all good nor all bad."""
    assert sum(n_rows.values()) >= ROWS * FILES
    assert min(n_rows.values()) > ROWS * FILES / 10
