"""The page's components and their handlers, over a server that sends no requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.replies import Replies
from components.chat.answering.running import RunningAnswers
from components.chat.client.server import ListedModel, Server
from components.chat.client.servers import Servers
from components.chat.client.settings import Settings
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.conversations import Conversations
from components.chat.storage.database import Database
from components.chat.ui.chat_values import slider_values
from components.chat.ui.chat_view import draw_chat
from components.chat.ui.compare_view import CompareView

DELTA = b'data: {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}\n'


class Api:
    """What every server lists and answers; bodies of requests are in ``bodies``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[ListedModel] | Exception = [ListedModel("one"), ListedModel("two")]
        self.bodies: list[Mapping[str, Any]] = []
        monkeypatch.setattr(Server, "models", self._list)
        monkeypatch.setattr(Server, "chat", self._chat)

    async def _list(self) -> list[ListedModel]:
        if isinstance(self.models, Exception):
            raise self.models
        return self.models

    @asynccontextmanager
    async def _chat(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        async def lines() -> AsyncIterator[bytes]:
            yield DELTA

        self.bodies.append(body)
        yield lines()


class View:
    """The chat and the comparison, without a browser."""

    api: Api

    def __init__(self, database: Database) -> None:
        self.database = database
        self.servers = Servers(["http://api/v1"], "none")
        self.conversations, self.comparisons = Conversations(database), Comparisons(database)
        self.running = RunningAnswers()
        self.replies = Replies(self.servers, self.conversations, self.running)
        self.running_comparisons = RunningComparisons(self.comparisons, self.running)
        with gr.Blocks(analytics_enabled=False) as self.page:
            self.chat = draw_chat(self.page, self.servers, self.conversations, self.replies, [])
            with gr.Tab("Compare") as tab:
                self.compare = CompareView(self.servers, self.comparisons, self.running_comparisons)
                self.compare.connect(self.page, tab)

    def chosen(self, conversation: str = "", model: str = "one", temperature: float = 0.0, seed: str = "") -> list[Any]:
        """The values of ``ChatComponents.chosen``."""
        _, top_p, max_tokens = slider_values(Settings())
        return [conversation, model, "", temperature, top_p, max_tokens, seed]

    async def call(
        self, component: Any, event: str, *values: Any, data: dict[str, Any] | None = None, user: str | None = "ann"
    ) -> Any:
        """The result of the handlers of an event, called as Gradio does; ``data`` is the event's own."""
        handlers = [fn.fn for fn in self.page.fns.values() if (component._id, event) in fn.targets and fn.fn]
        assert len(handlers) == 1
        event_data = None if data is None else gr.EventData(component, data)
        inputs, *_ = special_args(handlers[0], list(values), gr.Request(username=user), event_data)
        return await handlers[0](*inputs)

    async def ask(self, question: str, *, user: str = "ann", **chosen: Any) -> Any:
        """What Send returns, once the reply is complete."""
        values = [question, "", *self.chosen(**chosen)]
        result = await self.call(self.chat.question, "submit", *values, user=user)
        await self.replied()
        return result

    async def replied(self) -> None:
        """Wait until all answers are complete."""
        while any(not answer.done for answers in self.running._answers.values() for answer in answers):
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """The page, which takes a while to build."""

    async def build() -> View:
        return View(database)

    database = Database(tmp_path_factory.mktemp("chat") / "chat.sqlite")
    # Without a running event loop Gradio would make one and leave it open.
    yield asyncio.run(build())
    database.close()


@pytest.fixture
def view(built: View, monkeypatch: pytest.MonkeyPatch) -> View:
    """The page with an empty database."""
    with built.database.transaction() as tables:
        tables.execute("DELETE FROM conversation")
        tables.execute("DELETE FROM comparison")
    built.api = Api(monkeypatch)
    return built
