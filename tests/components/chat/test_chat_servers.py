"""Models that come and go, and contexts that fill up: a conversation goes on, and the page says with what."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from components.chat.client.comparing import Comparing
from components.chat.client.completions import Answer, Settings
from components.chat.client.fitting import shorter
from components.chat.client.replies import Asked, Replies
from components.chat.client.running import Running
from components.chat.client.servers import Servers
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.conversations import Conversations, Turn
from components.chat.storage.database import Database, reading
from components.chat.storage.labels import Labels
from components.chat.web.events import Piece, _events
from components.errors import DataError
from tests.openai_stub import Stub

DONE = Answer("yes", 4, 0.5, 2.0, "stop")


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "chat.sqlite")
    yield database
    database.close()


class Page:
    """What stands behind the page."""

    def __init__(self, database: Database, *addresses: str) -> None:
        self.servers = Servers([f"{address}/v1" for address in addresses], "none", Labels(database))
        self.conversations, self.running = Conversations(database), Running()
        self.replies = Replies(self.servers, self.conversations, self.running)

    async def ask(self, question: str, conversation: str = "", model: str = "stub", max_tokens: int = 64) -> Piece:
        """The last piece of an answer."""
        opened = self.conversations.ask("ann", conversation, question, "")
        self.replies.begin("ann", Asked(opened.id, model, "", Settings(max_tokens=max_tokens)), opened)
        return [piece async for piece in self.replies.follow("ann", opened.id)][-1]


@asynccontextmanager
async def page_over(database: Database, *addresses: str) -> AsyncIterator[Page]:
    page = Page(database, *addresses)
    try:
        yield page
    finally:
        await page.running.close()
        await page.servers.close()


def turns(*contents: str) -> tuple[Turn, ...]:
    roles = ("user", "assistant")
    return tuple(Turn(n, roles[n % 2], text, "m", None, None, "") for n, text in enumerate(contents))


def test_a_renamed_model_is_replaced_by_one_that_is_listed_and_the_page_says_so(database):
    async def scenario(stub: Stub) -> list[Piece]:
        async with page_over(database, stub.address) as page:
            await page.servers.models()
            first = await page.ask("hello")
            stub.model = "renamed"
            second = await page.ask("again", first["conversation"])
            return [first, second, await page.ask("and", first["conversation"], model="renamed")]

    with Stub() as stub:
        before, renamed, after = asyncio.run(scenario(stub))
    assert (before["relist"], before["text"]) == (False, "stub heard: hello")
    assert (renamed["relist"], renamed["text"]) == (True, "renamed heard: again")
    assert "stub is not there now: renamed answers" in renamed["words"]
    assert "is not there" not in after["words"]


def test_a_model_whose_server_is_gone_is_replaced_and_a_refusal_of_one_that_is_there_is_not(database):
    async def scenario(one: Stub, two: Stub) -> list[Piece]:
        async with page_over(database, one.address, two.address) as page:
            await page.servers.models()
            refused = await page.ask("refuse", model="one")
            two.__exit__()
            return [refused, await page.ask("hello", model="two")]

    with Stub("one") as one, Stub("two") as two:
        refused, replaced = asyncio.run(scenario(one, two))
    assert refused["words"] == "⚠ The model server refuses: the prompt has 9 tokens too many"
    assert replaced["text"] == "one heard: hello"
    assert "two is not there now: one answers" in replaced["words"]


def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_messages(database):
    async def scenario(stub: Stub) -> list[Piece]:
        async with page_over(database, stub.address) as page:
            last = await page.ask("the first question " + "x" * 100)
            stub.context = 300
            pieces = []
            for number in range(4):
                last = await page.ask(f"question {number} " + "y" * 50, last["conversation"])
                pieces.append(last)
            tried = len(stub.asked)
            last = await page.ask("one more", last["conversation"])
            assert len(stub.asked) <= tried + 2, "what was left out once is not tried each time"
            return pieces

    with Stub() as stub:
        pieces = asyncio.run(scenario(stub))
    assert all(piece["text"].startswith(f"stub heard: question {n}") for n, piece in enumerate(pieces))
    assert "the model's context is full: it did not read the 2 oldest messages" in pieces[0]["words"]
    assert all(body["messages"][0]["role"] == "user" for body in stub.asked)


def test_a_message_that_is_too_long_alone_is_no_dead_end(database):
    async def scenario(stub: Stub) -> list[Piece]:
        async with page_over(database, stub.address) as page:
            long = await page.ask("z" * 200)
            return [long, await page.ask("short", long["conversation"])]

    with Stub(context=100) as stub:
        long, short = asyncio.run(scenario(stub))
    assert "Your message alone is too long for this model: edit it and make it shorter" in long["words"]
    assert short["text"] == "stub heard: short"
    assert "it did not read the oldest message" in short["words"]


def test_a_shorter_answer_is_asked_for_where_its_length_is_what_does_not_fit(database):
    async def scenario(stub: Stub) -> Piece:
        async with page_over(database, stub.address) as page:
            return await page.ask("refuse", max_tokens=512)

    refusal = {"message": "maximum context length is 300 tokens; you asked for 512 in the completion"}
    with Stub(refusal=(400, refusal)) as stub:
        asyncio.run(scenario(stub))
    assert [body["max_tokens"] for body in stub.asked] == [512, 256, 128]


def test_a_shorter_conversation_begins_with_a_question_and_keeps_what_is_needed():
    said = turns("a" * 10, "b" * 10, "c" * 10, "d" * 10, "e")
    assert [turn.content[0] for turn in shorter(said, n_needed=1)] == ["c", "d", "e"]
    assert [turn.content[0] for turn in shorter(said[2:], n_needed=1)] == ["e"]
    assert shorter(said[4:], n_needed=1) == ()
    assert [turn.content[0] for turn in shorter(said[:4], n_needed=2)] == ["c", "d"]
    assert shorter(said[:2], n_needed=2) == ()


def test_an_answer_goes_on_without_a_window_and_each_window_is_told_all_of_it(database):
    async def scenario(stub: Stub) -> None:
        async with page_over(database, stub.address) as page:
            opened = page.conversations.ask("ann", "", "tell", "")
            page.replies.begin("ann", Asked(opened.id, "stub", "", Settings()), opened)
            cut = page.replies.follow("ann", opened.id)
            assert (await anext(cut))["text"] == ""
            await cut.aclose()
            both = await asyncio.gather(*(_last(page.replies.follow("ann", opened.id)) for _ in range(2)))
            assert [piece["text"] for piece in both] == [stub.answers["tell"]] * 2
            assert page.conversations.load("ann", opened.id).turns[-1].content == stub.answers["tell"]
            assert (await _last(page.replies.follow("ann", opened.id)))["done"], "a window that comes late"
            assert [piece async for piece in page.replies.follow("bob", opened.id)] == []

    with Stub(piece_seconds=0.02, answers={"tell": " ".join("abcdefghijkl")}) as stub:
        asyncio.run(scenario(stub))


async def _last(pieces) -> Piece:
    return [piece async for piece in pieces][-1]


def test_events_say_only_what_is_new_and_where_nothing_runs():
    async def pieces():
        yield {"text": "one", "words": "x", "done": False}
        yield {"text": "one two", "words": "x", "done": False}
        yield {"text": "one two", "words": "y", "done": True}

    async def nothing():
        return
        yield {}

    async def sent(of) -> list[bytes]:
        return [event async for event in _events(of)][1:]

    assert asyncio.run(sent(pieces())) == [
        b'data: {"text":"one","words":"x","done":false}\n\n', b'data: {"more":{"text":" two"}}\n\n',
        b'data: {"words":"y","done":true}\n\n',
    ]  # fmt: skip
    assert asyncio.run(sent(nothing())) == [b"event: gone\ndata:\n\n"]


def test_labels_stay_whichever_servers_answer_and_over_a_restart(database):
    one, two = "http://one/v1", "http://two/v1"
    labels = Labels(database)
    assert labels.of([(one, "base")], nameless={one, two}) == ["base"]
    assert labels.of([(one, "base"), (two, "base")], nameless={one, two}) == ["base", f"base ({two})"]
    assert Labels(database).of([(two, "base")], nameless={one, two}) == [f"base ({two})"]
    both = [(one, "other"), (two, "other")]
    assert Labels().of(both, nameless={one, two}) == [f"other ({one})", f"other ({two})"]
    assert Labels().of([("a", "base")], nameless=set()) == ["base (a)"]


@pytest.mark.parametrize("blind", [True, False])
def test_nothing_that_is_sent_before_a_blind_vote_betrays_who_is_who(database, blind):
    async def scenario(one: Stub, two: Stub) -> list[Piece]:
        async with page_over(database, one.address, two.address) as page:
            comparing = Comparing(Comparisons(database), page.running)
            models = await page.servers.models()
            name = comparing.begin("ann", models, "half", "", None, blind=blind)
            return [piece async for piece in comparing.follow("ann", name)]

    with Stub("alpha", refuses={"half"}) as one, Stub("omega", answers={"half": "said"}) as two:
        pieces = asyncio.run(scenario(one, two))
    sent = str(pieces)
    assert pieces[-1]["done"]
    assert {pieces[-1]["A"], pieces[-1]["B"]} >= {"said"}
    betrayed = [word for word in ("alpha", "omega", "tokens/s", "first token", "refuses") if word in sent]
    assert (betrayed == []) == blind
    assert (Comparisons(database).standings() == {}) == blind


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "wants a key: set OPENAI_API_KEY (no valid API key). Press Retry"),
        (404, "lists no models: such an address ends with /v1 as a rule (no valid API key). Press Retry"),
        (500, "No model server answers at "),
    ],
)
def test_a_server_that_answers_otherwise_is_not_said_to_be_away(database, status, words):
    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no valid API key"}}, status=status)

    async def scenario() -> str:
        app = web.Application()
        app.router.add_get("/v1/models", list_models)
        async with TestServer(app) as server:
            servers = Servers([str(server.make_url("/v1"))], "none", Labels(database))
            assert await servers.models() == []
            await servers.close()
            return servers.nothing_served

    assert words in asyncio.run(scenario())


def test_feedback_reads_beside_a_page_that_writes_and_from_a_folder_that_nobody_can_write(database, tmp_path):
    conversations = Conversations(database)
    opened = conversations.ask("ann", "", "question", "")
    conversations.answer("ann", opened, "m", DONE)
    copy = Path(tempfile.mkdtemp(prefix="lorry-read-only-"))
    try:
        with database.transaction():  # the page holds the lock, and what it wrote is in the write-ahead log
            with reading(tmp_path / "chat.sqlite") as tables:
                assert len(tables.execute("SELECT * FROM turn").fetchall()) == 2
            for name in ("chat.sqlite", "chat.sqlite-wal"):
                shutil.copyfile(tmp_path / name, copy / name)
                (copy / name).chmod(0o444)
        copy.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # nobody, whom permissions bind
            os.seteuid(65534)
        try:
            with pytest.raises(sqlite3.OperationalError):
                sqlite3.connect(copy / "chat.sqlite").execute("SELECT * FROM turn")
            with reading(copy / "chat.sqlite") as tables:
                assert len(tables.execute("SELECT * FROM turn").fetchall()) == 2
        finally:
            os.seteuid(user)
        assert sorted(path.name for path in copy.iterdir()) == ["chat.sqlite", "chat.sqlite-wal"]
    finally:
        copy.chmod(0o755)
        shutil.rmtree(copy)
    (tmp_path / "other.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="cannot be read as a SQLite file"), reading(tmp_path / "other.sqlite"):
        pass
