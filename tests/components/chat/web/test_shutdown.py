"""Shutdown of the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from uvicorn import Config

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.running import RunningAnswers
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.completion import Completion
from components.chat.web.shutdown import ChatPageServer


def test_running_answers_are_saved_before_the_server_ends_its_streams(database):
    saved: list[tuple[str | None, bool]] = []

    async def endless() -> AsyncGenerator[Completion]:
        for number in range(1, 1_000_000):
            yield Completion("x" * number, number, 0.1, 1.0)
            await asyncio.sleep(0)

    async def scenario() -> bool:
        running, stop_event = RunningAnswers(), asyncio.Event()

        async def save(completion: Completion) -> None:
            saved.append((completion.finish_reason, stop_event.is_set()))

        comparisons = RunningComparisons(Comparisons(database), running)
        config = Config(Starlette(), lifespan="off", log_config=None)
        server = ChatPageServer(config, running, comparisons, stop_event)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        server.servers = []
        answer = running.start(("chat", "ann", "c"), endless(), save)
        while not answer.latest.text:
            await asyncio.sleep(0)
        await server.shutdown()
        return stop_event.is_set()

    assert asyncio.run(scenario())
    assert saved == [("broken", False)]
