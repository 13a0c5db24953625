"""What tests of the chat page share: stored conversations, and the page's parts without Gradio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from components.chat.answering.replies import Replies, ReplyRequest, ReplySnapshot
from components.chat.answering.running import RunningAnswers
from components.chat.client.servers import Servers
from components.chat.client.settings import Settings
from components.chat.storage.completion import Completion
from components.chat.storage.conversations import ChatTurn, Conversation, Conversations
from components.chat.storage.database import Database
from components.chat.storage.labels import Labels

Item = TypeVar("Item")
DONE = Completion("yes", 4, 0.5, 2.0, "stop")


def store(
    conversations: Conversations, question: str, *answers: Completion, user: str = "ann", system: str = ""
) -> list[int]:
    """A conversation of one question with answers to it; returns its id and those of the answers."""
    opened = conversations.add_question(user, "", question, system)
    turns = []
    for answer in answers:
        opened = conversations.rewind(user, opened.id, system)
        turns.append(reply(conversations, opened, answer, user=user))
    return [opened.id, *turns]


def reply(conversations: Conversations, opened: Conversation, answer: Completion, user: str = "ann", model="m") -> int:
    """An answer to the last question; returns its id."""
    return conversations.save_answer(user, opened, model, answer)


def contents(conversations: Conversations, conversation: str) -> list[str]:
    return [turn.content for turn in conversations.load("ann", conversation).turns]


def turns(*texts: str) -> tuple[ChatTurn, ...]:
    """Turns of user and assistant in alternation."""
    roles = ("user", "assistant")
    return tuple(ChatTurn(n, roles[n % 2], text, "m", None, None, "") for n, text in enumerate(texts))


class Page:
    """What the page consists of besides Gradio."""

    def __init__(self, database: Database, *addresses: str) -> None:
        self.servers = Servers([f"{address}/v1" for address in addresses], "none", Labels(database))
        self.conversations, self.running = Conversations(database), RunningAnswers()
        self.replies = Replies(self.servers, self.conversations, self.running)

    async def ask(
        self, question: str, conversation: str = "", model: str = "stub", max_tokens: int = 64
    ) -> ReplySnapshot:
        """The last snapshot of the reply."""
        opened = self.conversations.add_question("ann", conversation, question, "")
        self.replies.start("ann", ReplyRequest(opened.id, model, "", Settings(max_tokens=max_tokens)), opened)
        return await last(self.replies.follow("ann", opened.id))


@asynccontextmanager
async def page_over(database: Database, *addresses: str) -> AsyncIterator[Page]:
    page = Page(database, *addresses)
    try:
        yield page
    finally:
        await page.running.close()
        await page.servers.close()


async def last(items: AsyncIterator[Item]) -> Item:
    return [item async for item in items][-1]
