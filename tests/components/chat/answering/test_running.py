"""Answers that run: saved however they end, and followed by several windows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import pytest

from components.chat.answering import running as module
from components.chat.answering.running import AnswerKey, RunningAnswer, RunningAnswers
from components.chat.client.errors import ServerError
from components.chat.storage.completion import Completion
from tests.components.chat.helpers import store

KEY: AnswerKey = ("chat", "ann", "conversation")


async def counting(n: int = 1000) -> AsyncGenerator[Completion]:
    """A completion that grows at each turn of the event loop."""
    for number in range(1, n + 1):
        yield Completion("x" * number, number, 0.1, 1.0)
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


class Saved(list[Completion]):
    """What was saved."""

    async def save(self, completion: Completion) -> None:
        self.append(completion)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Updates follow each other without a pause."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_UPDATES", 0.0)


def test_an_answer_that_is_stopped_is_saved_once_and_windows_get_its_end(quick):
    async def scenario() -> tuple[list[Completion], Saved]:
        saved, running, shown = Saved(), RunningAnswers(), []
        answer = running.start(KEY, counting(), saved.save)
        async for completion in answer.states(running):
            shown.append(completion)
            if len(completion.text) > 5:
                running.end(KEY, "stop")
        assert answer.done
        return shown, saved

    shown, saved = asyncio.run(scenario())
    assert shown[-1].finish_reason == "stopped"
    assert saved == [shown[-1]]


@pytest.mark.parametrize(("reason", "finish_reason"), [("stop", "stopped"), ("leave", "stopped"), ("close", "broken")])
def test_an_answer_that_is_ended_early_says_by_what(reason, finish_reason, quick):
    async def scenario() -> tuple[RunningAnswer, list[Completion]]:
        running = RunningAnswers()
        answer = running.start(KEY, counting())
        await until(lambda: bool(answer.latest.text))
        running.end(KEY, reason)
        return answer, [completion async for completion in answer.states(running)]

    answer, shown = asyncio.run(scenario())
    assert answer.latest.finish_reason == finish_reason
    assert answer.ended is not None
    assert (shown[-1:] == [answer.latest]) == (reason != "leave"), "a window that left gets no end"


def test_an_answer_that_ended_by_itself_keeps_its_own_finish_reason():
    async def scenario() -> RunningAnswer:
        async def completions() -> AsyncGenerator[Completion]:
            yield Completion("x", 1, 0.1, 1.0, "length")

        answer = RunningAnswers().start(KEY, completions())
        await answer.saved()
        answer.end("stop")
        return answer

    assert asyncio.run(scenario()).latest.finish_reason == "length"


def test_closing_ends_all_answers_and_waits_until_they_are_saved():
    async def scenario() -> list[Saved]:
        running, all_saved = RunningAnswers(), [Saved(), Saved()]
        answers = [
            running.start(("chat", user, "c"), counting(), saved.save)
            for user, saved in zip(("ann", "bob"), all_saved, strict=True)
        ]
        await until(lambda: all(answer.latest.text for answer in answers))
        await running.close()
        return all_saved

    assert [[one.finish_reason for one in saved] for saved in asyncio.run(scenario())] == [["broken"], ["broken"]]


def test_an_answer_that_is_left_while_it_is_being_saved_is_saved_whole_and_never_twice_at_once(
    conversations, monkeypatch
):
    (conversation,) = store(conversations, "q")
    opened = conversations.load("ann", conversation)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_SAVES", 0.0)

    async def scenario() -> RunningAnswer:
        turn: int | None = None
        n_saving = n_saves = 0

        async def save(completion: Completion) -> None:
            nonlocal turn, n_saving, n_saves
            n_saving, n_saves = n_saving + 1, n_saves + 1
            assert n_saving == 1
            turn = await asyncio.to_thread(
                partial(conversations.save_answer, "ann", opened, "m", completion, turn=turn)
            )
            n_saving -= 1

        running = RunningAnswers()
        answer = running.start(KEY, counting(100_000), save)
        await until(lambda: n_saves == 2 and n_saving == 1)
        await running.leave(KEY)
        return answer

    left = asyncio.run(scenario())
    assert left.done
    assert left.error == ""
    (question, stored) = conversations.load("ann", conversation).turns
    assert (question.content, stored.content, stored.completion) == ("q", left.latest.text, left.latest)
    assert left.latest.finish_reason == "stopped"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ServerError("The model server is busy. Press Retry to ask again."), "The model server is busy. Press Retry"),
        (KeyError("x"), "The page failed (KeyError); its log says more. Press Retry to ask again."),
    ],
)
def test_an_answer_that_fails_keeps_its_text_and_shows_the_error(error, message, caplog):
    async def scenario() -> tuple[RunningAnswer, Saved]:
        async def completions() -> AsyncGenerator[Completion]:
            yield Completion("half", 2, 0.1, 0.2)
            raise error

        saved = Saved()
        answer = RunningAnswers().start(KEY, completions(), saved.save)
        await answer.saved()
        return answer, saved

    answer, saved = asyncio.run(scenario())
    assert answer.error.startswith(message)
    assert [(one.text, one.finish_reason) for one in saved] == [("half", "broken")]
    assert ("an answer failed" in caplog.text) == isinstance(error, KeyError), "only a bug has a traceback"


def test_an_answer_that_cannot_be_saved_is_shown_with_the_reason():
    async def scenario() -> RunningAnswer:
        async def fail(_: Completion) -> None:
            raise OSError("disk full")

        running = RunningAnswers()
        answer = running.start(KEY, counting(3), fail)
        await running.leave(KEY)
        return answer

    assert asyncio.run(scenario()).error == "This answer cannot be saved: disk full"


def test_several_windows_get_the_whole_answer_and_seconds_count_while_nothing_comes(quick):
    async def scenario() -> list[list[Completion]]:
        first_token = asyncio.Event()

        async def completions() -> AsyncGenerator[Completion]:
            yield Completion()
            await first_token.wait()
            yield Completion("x", 1, 0.1, 1.0, "stop")

        async def follow(answer: RunningAnswer) -> list[Completion]:
            shown = []
            async for completion in answer.states(running):
                shown.append(completion)
                first_token.set()
            return shown

        running = RunningAnswers()
        answer = running.start(KEY, completions())
        return await asyncio.gather(follow(answer), follow(answer))

    one, two = asyncio.run(scenario())
    for shown in (one, two):
        assert shown[0].text == ""
        assert shown[0].seconds > 0
        assert (shown[-1].text, shown[-1].finish_reason) == ("x", "stop")


def test_updates_become_rarer_with_each_answer_and_answers_that_ended_do_not_count():
    async def scenario(save: Callable[[Completion], Awaitable[None]]) -> list[float]:
        running, seconds = RunningAnswers(), []
        for number in range(3):
            running.start(("chat", "ann", str(number)), counting(), save)
            seconds.append(running.seconds_between_updates)
        await running.close()
        running.start(KEY, counting(), save)
        seconds.append(running.seconds_between_updates)
        await running.close()
        return seconds

    assert asyncio.run(scenario(Saved().save)) == pytest.approx([0.1, 0.12, 0.14, 0.1])
