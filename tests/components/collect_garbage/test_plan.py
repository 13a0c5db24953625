"""What goes and what stays is decided from listings: the rules, their reasons, and stores and pins at random."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from components.collect_garbage.items import Item, Kind
from components.collect_garbage.plan import Rules, decide, duration, pins_of_current, short
from tests.properties import quick

NOW = datetime(2026, 11, 28, tzinfo=UTC)
STORE = "s3://bucket/lorry"


def item(name: str, days: float = 100, kind: Kind = "model", **fields: object) -> Item:
    modified = NOW - timedelta(days=days)
    return Item.model_validate({"kind": kind, "name": name, "size_bytes": 1, "modified": modified, **fields})


def rules(keep: int = 0, days: float = 30, **fields: object) -> Rules:
    return Rules(keep=keep, older_than=timedelta(days=days), now=NOW, **fields)  # type: ignore[arg-type]


def reasons(items: list[Item], given: Rules) -> dict[str, tuple[bool, str]]:
    return {one.item.name: (one.goes, one.reason) for one in decide({STORE: items}, given)}


def test_the_current_and_the_pinned_model_stay_and_an_old_one_goes():
    pins = {**pins_of_current({STORE: "current", "other": None}), "model:pinned": "pinned by the overlay o"}
    found = reasons([item("current"), item("pinned"), item("old", days=41)], rules(pins=pins))
    assert found == {
        "current": (False, "the current model of its store"),
        "pinned": (False, "pinned by the overlay o"),
        "old": (True, "not current, not pinned, not needed by what stays"),
    }


def test_the_newest_of_each_kind_stay_whatever_their_age():
    items = [item("a", 90), item("b", 80), item("c", 70), item("r", 99, "run"), item("s", 98, "run")]
    found = reasons(items, rules(keep=1))
    assert {name for name, (goes, _) in found.items() if not goes} == {"c", "s"}
    assert found["c"][1] == "one of the 1 newest models"
    assert found["r"][1] == "not among the 1 newest, not needed by what stays"


def test_the_newest_are_counted_in_each_place_for_itself():
    found = decide({"one": [item("a", 90)], "two": [item("b", 80)]}, rules(keep=1))
    assert [one.goes for one in found] == [False, False]


def test_what_is_younger_than_the_limit_stays():
    found = reasons([item("young", 29.9), item("old", 30)], rules())
    assert found["young"] == (False, "younger than 30 days")
    assert found["old"][0]


def test_an_upload_without_an_end_stays_for_a_day_only_unless_it_is_pinned():
    unfinished = {"unfinished": "an upload without model.json"}
    items = [item("new", 0.9, **unfinished), item("left", 1.1, **unfinished), item("pinned", 9, **unfinished)]
    found = reasons(items, rules(keep=5, pins={"model:pinned": "served"}))
    assert found["new"] == (False, "an upload without model.json, less than a day ago: it may still be written")
    assert found["left"] == (True, "an upload without model.json, more than a day ago")
    assert found["pinned"] == (False, "served")


def test_what_is_held_stays_and_says_why():
    found = reasons([item("k", kind="checkpoints", held="a run is training into it now")], rules())
    assert found["k"] == (False, "a run is training into it now")


def test_a_kind_of_which_nothing_is_known_stays_in_that_place_alone():
    unknown = {STORE: {"input": "give --endpoint"}}
    found = decide({STORE: [item("a", kind="input")], "other": [item("a", kind="input")]}, rules(unknown=unknown))
    assert [(one.goes, one.reason) for one in found] == [
        (False, "give --endpoint"), (True, "not needed by what stays"),
    ]  # fmt: skip


def test_what_a_kept_run_needs_stays_in_every_place_and_with_it_what_that_needs():
    items = [
        item("run", 1, "run", needs=["model:m"]), item("m", needs=["checkpoints:k", "base model:b"]),
        item("b", kind="base model"), item("unneeded", kind="base model"), item("i", kind="input"),
    ]  # fmt: skip
    places = {STORE: items, "/checkpoints": [item("k", kind="checkpoints"), item("other", kind="checkpoints")]}
    found = decide(places, rules(needs={"run:run": ["input:i"]}))
    assert {one.item.name for one in found if one.goes} == {"unneeded", "other"}
    assert next(one.reason for one in found if one.item.name == "k") == "model m, which stays, needs it"


def test_names_and_times_are_short():
    assert short("a" * 64) == "a" * 12
    assert short("01234567-89ab-cdef-0123-456789abcdef") == "01234567"
    assert short("steps/finetune/train-lora") == "steps/finetune/train-lora"
    times = [timedelta(days=2), timedelta(hours=1), timedelta(minutes=5), timedelta(seconds=3), timedelta(days=-1)]
    assert [duration(time) for time in times] == ["2 days", "1 hour", "5 minutes", "3 seconds", "0 seconds"]


NAMES = [f"{number:x}" for number in range(12)]
KINDS: list[Kind] = ["model", "input", "base model", "run", "sweep", "checkpoints", "step output"]
ITEMS = st.builds(
    item,
    name=st.sampled_from(NAMES),
    days=st.floats(0, 200),
    kind=st.sampled_from(KINDS),
    needs=st.lists(st.builds("{}:{}".format, st.sampled_from(KINDS), st.sampled_from(NAMES)), max_size=3),
    held=st.sampled_from([None, None, None, "held"]),
    unfinished=st.sampled_from([None, None, None, "unfinished"]),
)
PINS = st.dictionaries(st.builds("{}:{}".format, st.sampled_from(KINDS), st.sampled_from(NAMES)), st.just("pinned"))


@quick
@given(
    places=st.dictionaries(st.sampled_from(["a", "b"]), st.lists(ITEMS, max_size=12, unique_by=lambda i: i.reference)),
    pins=PINS,
    keep=st.integers(0, 4),
    days=st.integers(0, 60),
)
def test_nothing_that_is_kept_goes_or_loses_what_it_needs(places, pins, keep, days):
    found = decide(places, rules(keep=keep, days=days, pins=pins))
    assert [(one.place, one.item) for one in found] == [(place, i) for place, items in places.items() for i in items]
    going = {(one.place, one.item.reference) for one in found if one.goes}
    for one in found:
        if one.item.held or one.item.reference in pins:
            assert not one.goes
        if not one.goes:
            assert not [need for need in one.item.needs for place in places if (place, need) in going]
        age = NOW - one.item.modified
        if one.goes:
            assert age >= timedelta(days=1 if one.item.unfinished else days)
    for place, items in places.items():
        models = sorted((i for i in items if i.kind == "model" and not i.unfinished), key=lambda i: i.modified)
        assert not [i for i in models[::-1][:keep] if (place, i.reference) in going]
