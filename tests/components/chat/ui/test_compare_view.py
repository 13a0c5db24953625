"""Handlers of the comparison."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from components.chat.client.server import ListedModel


async def compare(view, *, models=("one", "two"), prompt: str = "q", own: bool = True, blind: bool = True) -> Any:
    values = [list(models), prompt, "", own, 0.3, 32.0, blind]
    result = await view.call(view.compare.start, "click", *values)
    await view.replied()
    return result


async def started(view, **options: Any) -> str:
    """The id of a comparison that is complete and stored."""
    await view.servers.models()
    name = (await compare(view, **options))[view.compare.comparison]
    async for _ in view.running_comparisons.follow("ann", name):
        pass
    return name


@pytest.mark.parametrize(
    ("models", "prompt", "message"),
    [((), "q", "Choose at least two models."), (("one",), "q", "Choose at least two"),
     (("one", "gone"), "q", "Choose at least two"), (("one", "two"), " ", "Write a prompt first.")],
)  # fmt: skip
def test_what_is_missing_for_a_comparison_is_named(view, models, prompt, message):
    async def scenario() -> Any:
        await view.servers.models()
        return await compare(view, models=models, prompt=prompt)

    result = asyncio.run(scenario())
    assert result == {view.compare.status: message} or message in result[view.compare.status]
    assert view.api.bodies == []


@pytest.mark.parametrize(("own", "temperature", "max_tokens"), [(True, 0.0, 256), (False, 0.3, 32)])
def test_models_answer_with_their_own_settings_or_with_the_same(view, own, temperature, max_tokens):
    asyncio.run(started(view, own=own))
    sent = [(body["temperature"], body["max_tokens"]) for body in view.api.bodies]
    assert sent == [(temperature, max_tokens)] * 2


def test_a_vote_names_the_models_and_closes_the_ballot(view):
    async def scenario() -> tuple[Any, Any]:
        name = await started(view, blind=False)
        vote = [await view.call(view.compare.ballot, "input", name, "B") for _ in range(2)]
        return vote[0], vote[1]

    vote, again = asyncio.run(scenario())
    first, second, *rest = [vote.get(heading) for heading in view.compare.headings]
    assert first.startswith("**A** · **one** · 1 token")
    assert second.startswith("**B** · **two**")
    assert rest == [None, None]
    assert vote[view.compare.status] == "Your vote: two. Thank you."
    assert vote[view.compare.ballot]["interactive"] is False
    assert "you have voted already" in again[view.compare.status]
    assert view.comparisons.standings()["two"].wins == 1


@pytest.mark.parametrize(("vote", "message"), [("tie", "all the same"), ("none", "none of them")])
def test_a_vote_for_no_single_answer_is_named(view, vote, message):
    async def scenario() -> Any:
        return await view.call(view.compare.ballot, "input", await started(view), vote)

    assert message in asyncio.run(scenario())[view.compare.status]


def test_another_users_comparison_takes_no_vote(view):
    async def scenario() -> Any:
        return await view.call(view.compare.ballot, "input", await started(view), "A", user="bob")

    assert "not there any more" in asyncio.run(scenario())[view.compare.status]
    assert view.comparisons.standings() == {}


def test_at_most_four_models_are_chosen_at_first(view):
    view.api.models = [ListedModel(str(number)) for number in range(6)]
    (load,) = [
        fn.fn for fn in view.page.fns.values()
        if fn.fn and view.compare.models in fn.outputs
    ]  # fmt: skip
    update = asyncio.run(load())
    assert (len(update["choices"]), update["value"]) == (6, ["0", "1", "2", "3"])


def test_common_settings_are_shown_only_where_they_are_used(view):
    (toggle,) = [fn.fn for fn in view.page.fns.values() if (view.compare.own._id, "input") in fn.targets]
    assert [update["visible"] for update in toggle(True)] == [False, False]
    assert [update["visible"] for update in toggle(False)] == [True, True]
