"""The chat page's parts: what it asks, what it keeps, and whom it knows."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from functools import partial
from pathlib import Path

import bcrypt
import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.completions import BROKEN, Answer, ServerError, Settings, _read, stream_answer
from components.chat.client.running import Answering, Running
from components.chat.client.servers import Listed, Model, Server, Servers
from components.chat.feedback import Feedback, collect
from components.chat.storage.comparisons import NONE, Comparisons
from components.chat.storage.conversations import Conversation, Conversations
from components.chat.storage.database import Database
from components.chat.storage.export import as_markdown, as_messages, as_rows, file_name
from components.chat.ui.assets import sheet
from components.chat.web.identity import COOKIE, by_cookie, by_login, secret_of
from components.errors import BusyError, DataError
from tests.conftest import free_port, run_lorry
from tests.openai_stub import Stub

PLACE = ("chat", "ann", "session")
DONE = Answer("yes", 4, 0.5, 2.0, "stop")


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "chat.sqlite")
    yield database
    database.close()


@pytest.fixture
def conversations(database) -> Conversations:
    return Conversations(database)


def say(
    conversations: Conversations, question: str, *answers: Answer, user: str = "ann", system: str = ""
) -> list[int]:
    """A conversation of one question with answers to it; gives its id and those of the answers."""
    opened = conversations.ask(user, "", question, system)
    turns = []
    for answer in answers:
        opened = conversations.ask_again(user, opened.id, system)
        turns.append(reply(conversations, opened, answer, user=user))
    return [opened.id, *turns]


def reply(conversations: Conversations, opened: Conversation, answer: Answer, user: str = "ann", model="m") -> int:
    """An answer to the last question; gives its id."""
    return conversations.answer(user, opened, model, answer)


def contents(conversations: Conversations, conversation: str) -> list[str]:
    return [turn.content for turn in conversations.load("ann", conversation).turns]


def collected(database: Database) -> Feedback:
    with database.transaction() as tables:
        return collect(tables)


async def answers_of(address: str, question: str, model: str = "stub") -> list[Answer]:
    server = Server(f"{address}/v1", "none")
    try:
        messages = [{"role": "user", "content": question}]
        return [answer async for answer in stream_answer(server, model, messages, Settings(0.0, max_tokens=12))]
    finally:
        await server.close()


def test_an_answer_grows_and_ends_with_its_figures(server):
    (model,) = httpx.get(f"{server}/v1/models").json()["data"]
    answers = asyncio.run(answers_of(server, "Hello there", model["id"]))
    assert answers[0].in_words() == "Reading your prompt… 0 s"
    texts = [answer.text for answer in answers]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    last = answers[-1]
    assert last.finish_reason in ("stop", "length")
    assert 0 < last.n_tokens <= 12
    assert last.first_token_seconds is not None
    assert 0 < last.first_token_seconds <= last.seconds
    assert f"{last.n_tokens} tokens · " in last.in_words()


def test_the_first_token_counts_from_the_request_and_not_from_the_answers_head():
    with Stub(first_seconds=0.2) as stub:
        (*_, last) = asyncio.run(answers_of(stub.address, "Hello"))
    assert last.first_token_seconds is not None
    assert last.first_token_seconds >= 0.2


@pytest.mark.parametrize(
    ("reason", "told", "more"), [("length", "cut at the length limit", True), ("stop", "in all", False),
                                 ("stopped", "stopped", True), ("broken", "broke off", True)],
)  # fmt: skip
def test_an_answer_says_how_it_ended(reason, told, more):
    answer = Answer("x", 9, 0.1, 1.0, reason)
    assert answer.in_words().endswith(told)
    assert answer.can_go_on == more


def test_tokens_per_second_count_from_the_first_token_and_parts_add_up():
    assert Answer("x", 11, 0.5, 2.5, "stop").tokens_per_second == pytest.approx(5.0)
    assert Answer("x", 1, 0.5, 0.5, "stop").tokens_per_second is None
    whole = Answer("b", 5, 0.5, 1.5, "stop").behind(Answer("a", 5, 1.0, 2.0, "length"))
    assert whole == Answer("ab", 10, 1.0, 3.0, "stop")


def test_a_stream_that_breaks_keeps_what_came():
    with Stub() as stub:
        (*_, last) = asyncio.run(answers_of(stub.address, "break"))
    assert (last.text, last.finish_reason) == ("stub heard: ", BROKEN)


def test_servers_that_are_gone_or_refuse_are_said_in_words():
    with pytest.raises(ServerError, match=r"The model server at .* does not answer. Is it running\? Press Retry"):
        asyncio.run(answers_of(f"http://127.0.0.1:{free_port()}", "Hello"))
    with Stub() as stub:
        with pytest.raises(ServerError, match="The model server refuses: the prompt has 9 tokens too many"):
            asyncio.run(answers_of(stub.address, "refuse"))
        waited = [answer.busy_seconds for answer in asyncio.run(answers_of(stub.address, "busy"))]
    assert waited[1] == 3.0
    assert waited[-1] is None


def test_models_of_several_servers_have_names_that_differ():
    async def models(servers: Servers) -> list[str]:
        try:
            return [model.label for model in await servers.models()]
        finally:
            await servers.close()

    with Stub("base") as one, Stub("base") as two, Stub("tuned") as three:
        gone = f"http://127.0.0.1:{free_port()}/v1"
        servers = Servers([f"a={one.address}/v1", f"b={two.address}/v1", f"{three.address}/v1", f"c={gone}"], "none")
        labels = asyncio.run(models(servers))
        alone = asyncio.run(models(Servers([f"a={one.address}/v1", f"b={gone}"], "none")))
    assert labels == ["base (a)", "base (b)", "tuned"]
    assert alone == ["base (a)"], "a vote for it would count for another model"
    assert servers.known("tuned") is not None
    assert servers.known("other") is None


def test_a_models_own_settings_reach_as_far_as_the_pages():
    own = Settings.of(GenerationDefaults(temperature=0.6, top_p=0.01, max_tokens=5000, top_k=3))
    assert own == Settings(temperature=0.6, top_p=0.05, max_tokens=2048)
    assert Settings.of(GenerationDefaults(max_tokens=1)) == Settings(max_tokens=16)
    assert Settings.of(GenerationDefaults()) == Settings()


@pytest.mark.parametrize(
    ("meta", "prompts", "generation"),
    [
        (None, (), {}),
        ("words", (), {}),
        ([1], (), {}),
        ({"n_ctx_train": 4096, "n_params": 7}, (), {}),
        ({"example_prompts": "What?", "default_generation_settings": [0.5]}, (), {}),
        ({"example_prompts": ["Good?", "", 5, None, ["x"], "x" * 201]}, ("Good?",), {}),
        ({"example_prompts": [f"{n}?" for n in range(50)]}, tuple(f"{n}?" for n in range(8)), {}),
        (
            {"default_generation_settings": {"temperature": "hot", "top_p": 0.9, "max_tokens": -1, "other": {}}},
            (),
            {"top_p": 0.9},
        ),
    ],
)
def test_a_meta_of_another_form_leaves_out_what_it_does_not_say(meta, prompts, generation):
    async def ask(address: str) -> list[Listed]:
        server = Server(f"{address}/v1", "none")
        try:
            return await server.models()
        finally:
            await server.close()

    with Stub(meta=meta) as stub:
        assert asyncio.run(ask(stub.address)) == [Listed("stub", prompts, GenerationDefaults(**generation))]


def test_the_recipes_example_prompts_reach_the_page(server):
    async def ask() -> list[Model]:
        servers = Servers([f"{server}/v1"], "none")
        try:
            return await servers.models()
        finally:
            await servers.close()

    (model,) = asyncio.run(ask())
    assert (model.label, model.example_prompts, model.generation) == (
        "tiny",
        ("What is Lorry?",),
        GenerationDefaults(),
    )


@pytest.mark.parametrize(
    ("addresses", "words"), [(["model-server:8080"], "is no address of a server; give one as http://HOST:PORT/v1"),
                             (["a=http://x/v1", "a=http://y/v1"], "two servers are called 'a'")],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(addresses, words):
    with pytest.raises(DataError, match=words):
        Servers(addresses, "none")


def test_a_user_sees_and_changes_only_what_is_their_own(conversations):
    conversation, turn = say(conversations, "secret", DONE)
    was = conversations.load("ann", conversation)
    asked = was.turns[0].id
    assert [title for title, _ in conversations.titles("ann")] == ["secret"]
    assert conversations.titles("bob") == []
    for forbidden in (
        lambda: conversations.load("bob", conversation),
        lambda: conversations.ask("bob", conversation, "x", ""),
        lambda: conversations.ask("bob", "", "x", "", instead_of=asked),
        lambda: conversations.ask_again("bob", conversation, ""),
        lambda: conversations.answer("bob", was, "m", DONE),
        lambda: conversations.clear("bob", conversation),
        lambda: conversations.rename("bob", conversation, "x"),
        lambda: conversations.delete("bob", conversation),
        lambda: conversations.judge("bob", turn, True),
        lambda: conversations.explain("bob", turn, "x"),
    ):
        with pytest.raises(DataError, match="is not there any more"):
            forbidden()
    assert conversations.load("ann", conversation).turns[-1].content == "yes"


def test_asking_again_and_editing_begin_branches_and_nothing_is_lost(conversations, database):
    conversation, *_ = say(conversations, "q", Answer("one", 1, 0.1, 1.0, "stop"), DONE)
    assert contents(conversations, conversation) == ["q", "yes"]
    conversations.ask("ann", conversation, "then", "")
    assert contents(conversations, conversation) == ["q", "yes", "then"]
    first = conversations.load("ann", conversation).turns[0]
    edited = conversations.ask("ann", conversation, "other", "Be kind.", instead_of=first.id)
    assert (edited.system, [turn.content for turn in edited.turns]) == ("Be kind.", ["other"])
    with database.transaction() as tables:
        kept = [row["content"] for row in tables.execute("SELECT content FROM turn ORDER BY id")]
    assert kept == ["q", "one", "yes", "then", "other"]
    conversations.clear("ann", conversation)
    assert contents(conversations, conversation) == []
    conversations.delete("ann", conversation)
    with database.transaction() as tables:
        assert tables.execute("SELECT count(*) FROM turn").fetchone()[0] == 0


def test_an_answer_that_comes_late_does_not_take_the_conversation_back(conversations):
    (conversation,) = say(conversations, "q")
    was = conversations.load("ann", conversation)
    conversations.ask("ann", conversation, "instead", "", instead_of=was.turns[0].id)
    reply(conversations, was, DONE)
    assert contents(conversations, conversation) == ["instead"]


def test_what_the_server_is_sent_has_the_system_prompt_and_joins_unanswered_questions(conversations):
    (conversation,) = say(conversations, "a", system="Be kind.")
    opened = conversations.ask("ann", conversation, "b", "Be kind.")
    assert as_messages(opened.system, [(turn.role, turn.content) for turn in opened.turns]) == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "a\n\nb"},
    ]  # fmt: skip


def test_a_file_that_is_no_database_of_ours_is_left_alone(tmp_path):
    (tmp_path / "chat.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="is no SQLite file"):
        Database(tmp_path / "chat.sqlite")
    with sqlite3.connect(tmp_path / "newer.sqlite") as tables:
        tables.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="is of schema version 99, and this Lorry knows 1; update Lorry"):
        Database(tmp_path / "newer.sqlite")
    with pytest.raises(BusyError, match="cannot be written"):
        Database(Path("/proc/lorry/chat.sqlite"))


def test_feedback_takes_whole_liked_answers_and_keeps_disliked_ones_apart(conversations, database):
    cut = Answer("cut", 1, 0.1, 1.0, "length")
    _, good = say(conversations, "good", DONE, system="Be kind.")
    _, unfinished = say(conversations, "unfinished", cut)
    _, worse, better = say(conversations, "again", Answer("no", 1, 0.1, 1.0, "stop"), DONE)
    _, only_bad = say(conversations, "bad", DONE)
    _, same = say(conversations, "bad", DONE, user="bob")
    behind, bad = say(conversations, "first", DONE)
    answer = reply(conversations, conversations.ask("ann", behind, "then", ""), DONE)
    for turn in (good, unfinished, better, answer):
        conversations.judge("ann", turn, True)
    conversations.judge("bob", same, True)
    for turn in (worse, only_bad, bad):
        conversations.judge("ann", turn, False)
    conversations.explain("ann", only_bad, "wrong")
    found = collected(database)
    assert [row["messages"] for row in found.liked] == [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "good"},
         {"role": "assistant", "content": "yes"}],
        [{"role": "user", "content": "again"}, {"role": "assistant", "content": "yes"}],
    ]  # fmt: skip
    assert found.left_out == 3
    (pair,) = found.preferences
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("yes", "no")
    assert [row.get("note") for row in found.disliked] == ["wrong", None]


def test_what_was_disliked_is_learned_from_nowhere_and_each_answer_has_the_system_prompt_it_was_given(
    conversations, database
):
    _, bad = say(conversations, "first", DONE, system="old")
    conversations.judge("ann", bad, False)
    # The same answer to the same words again, which nobody judged, and a liked one behind it.
    behind, _ = say(conversations, "first", DONE, system="old")
    liked = reply(conversations, conversations.ask("ann", behind, "then", "old"), DONE)
    conversations.judge("ann", liked, True)
    under_old = say(conversations, "q", Answer("of old", 1, 0.1, 1.0, "stop"), system="old")
    conversations.judge("ann", under_old[1], True)
    under_new = reply(conversations, conversations.ask_again("ann", under_old[0], "new"), DONE)
    conversations.judge("ann", under_new, False)
    found = collected(database)
    assert [[message["content"] for message in row["messages"]] for row in found.liked] == [["old", "q", "of old"]]
    assert found.left_out == 1
    assert found.preferences == []
    assert [row["prompt"][0]["content"] for row in found.disliked] == ["old", "new"]


def test_an_opinion_can_be_taken_back_with_its_note(conversations, database):
    conversation, turn = say(conversations, "q", DONE)
    conversations.judge("ann", turn, True)
    conversations.explain("ann", turn, "fine")
    conversations.judge("ann", turn, None)
    last = conversations.load("ann", conversation).turns[-1]
    assert (last.liked, last.note) == (None, "")
    assert collected(database).liked == []


def test_votes_add_up_by_model_and_become_preferences(database):
    comparisons = Comparisons(database)
    answers = {"A": ("base", Answer("a", 3, 0.2, 1.2, "stop")), "B": ("tuned", Answer("b", 3, 0.1, 0.6, "stop"))}
    ids = [f"comparison-{number}" for number in range(4)]
    for one in ids:
        comparisons.keep("ann", one, "q", "", answers, blind=True)
    for comparison, vote in zip(ids, ("B", "tie", NONE), strict=False):
        comparisons.vote("ann", comparison, vote)
    for user, comparison, vote in (("bob", ids[3], "A"), ("ann", ids[3], "C"), ("ann", "no", "A")):
        with pytest.raises(DataError, match="this comparison is not there any more"):
            comparisons.vote(user, comparison, vote)
    standings = comparisons.standings()
    assert list(standings) == ["tuned", "base"]
    tuned, base = standings.values()
    assert (tuned.wins, tuned.losses, tuned.ties, tuned.share) == (1, 1, 1, 0.5)
    assert (base.wins, base.losses, base.ties) == (0, 2, 1)
    assert tuned.middle("tokens_per_second") == pytest.approx(4.0)
    with pytest.raises(DataError, match="you have voted already; compare again"):
        comparisons.vote("ann", ids[0], "A")
    cut = {"A": ("base", Answer("", 0)), "B": ("tuned", Answer("half", 1, 0.1, 9.0, "broken"))}
    comparisons.keep("ann", "cut", "cut", "", cut, blind=False)
    comparisons.vote("ann", "cut", "B")
    assert comparisons.standings()["tuned"].seconds == [0.6] * 3, "figures of a blind comparison tell who is who"
    found = collected(database)
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found.preferences] == [("b", "a")]
    assert [row["rejected"][0]["content"] for row in found.disliked] == ["a", "b"]


def test_exports_have_model_and_figures_and_a_name_after_the_title(conversations):
    conversation, _ = say(conversations, "What is /etc/passwd?", DONE, system="Be kind.")
    opened = conversations.load("ann", conversation)
    assert file_name(opened, "md") == "What-is-etc-passwd.md"
    assert "## m\n\nyes\n\n*4 tokens" in as_markdown(opened)
    assert [message["role"] for message in json.loads(as_rows(opened))["messages"]] == ["system", "user", "assistant"]


def test_figures_cannot_leave_their_style_sheet(conversations):
    (conversation,) = say(conversations, "q")
    reply(conversations, conversations.load("ann", conversation), DONE, model='"}</style><script>')
    drawn = sheet(conversations.load("ann", conversation).turns)
    style, rest = drawn.removeprefix("<style>").split("</style>")
    assert "<" not in style
    assert "\\3c script\\3e " in style
    assert rest == '<span id="state" data-state="idle"></span>'


def test_a_cookie_is_signed_kept_over_a_restart_and_different_for_each_browser(tmp_path):
    def page() -> FastAPI:
        app = FastAPI()
        known = by_cookie(app, secret_of(tmp_path))

        @app.get("/")
        async def me(request: Request) -> str | None:
            return known["auth_dependency"](request)

        return app

    first, second = TestClient(page()), TestClient(page())
    ann = first.get("/").json()
    assert ann
    assert first.get("/").json() == ann
    assert second.get("/").json() != ann
    after = TestClient(page(), cookies={COOKIE: first.cookies[COOKIE]})
    assert after.get("/").json() == ann
    forged = TestClient(page(), cookies={COOKIE: first.cookies[COOKIE][:-4] + "AAAA"})
    assert forged.get("/").json() != ann
    assert (tmp_path / "cookie-secret").stat().st_mode & 0o777 == 0o600


def test_a_login_takes_htpasswds_file_and_says_what_is_wrong_with_one(tmp_path):
    path = tmp_path / "users"
    with pytest.raises(DataError, match=r"cannot be read .*make it with: htpasswd -B -c"):
        by_login(path)
    path.write_text("# nobody\n")
    with pytest.raises(DataError, match="names nobody; add somebody with: htpasswd -B"):
        by_login(path)
    path.write_text("ann:$apr1$old\n")
    with pytest.raises(DataError, match="line 1 is not NAME:BCRYPT-HASH"):
        by_login(path)
    path.write_text(f"ann:{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}\n")
    login = by_login(path)["auth"]
    tried = [("ann", "right"), ("ann", "wrong"), ("bob", "right"), ("ann", "x" * 200)]
    assert [asyncio.run(login(*pair)) for pair in tried] == [True, False, False, False]


def test_an_answer_is_kept_however_it_ends():
    async def pieces():
        for number in range(1000):
            yield Answer("x" * (number + 1), number + 1, 0.1, 1.0)
            await asyncio.sleep(0.01)

    async def scenario() -> tuple[list[Answer], list[Answer]]:
        kept: list[Answer] = []

        async def keep(answer: Answer) -> None:
            kept.append(answer)

        running, shown = Running(), []
        answering = running.start(PLACE, pieces(), keep)
        async for answer in answering.pieces(running):
            shown.append(answer)
            if len(answer.text) > 5:
                running.end(PLACE, "stop")
        assert answering.done
        return shown, kept

    shown, kept = asyncio.run(scenario())
    assert shown[-1].finish_reason == "stopped"
    assert kept == [shown[-1]]


def test_an_answer_that_is_left_while_it_is_being_kept_is_kept_once_and_whole(conversations):
    (conversation,) = say(conversations, "q")
    opened = conversations.load("ann", conversation)

    async def pieces():
        for number in range(100):
            yield Answer("x" * (number + 1), number + 1, 0.1, 1.0)
            await asyncio.sleep(0.005)

    async def scenario(monkeypatch: pytest.MonkeyPatch) -> tuple[Answering, Answering]:
        monkeypatch.setattr("components.chat.client.running.SECONDS_BETWEEN_SAVES", 0.0)
        turn: int | None = None
        at_once = 0

        async def keep(answer: Answer) -> None:
            nonlocal turn, at_once
            at_once += 1
            assert at_once == 1
            turn = await asyncio.to_thread(partial(conversations.answer, "ann", opened, "m", answer, turn=turn))
            await asyncio.sleep(0.05)
            at_once -= 1

        running = Running()
        left = running.start(PLACE, pieces(), keep)
        await asyncio.sleep(0.1)
        await running.leave(PLACE)
        ended = running.start(PLACE, pieces(), failing)
        await running.leave(PLACE)
        return left, ended

    async def failing(_: Answer) -> None:
        raise OSError("disk full")

    with pytest.MonkeyPatch.context() as monkeypatch:
        left, ended = asyncio.run(scenario(monkeypatch))
    assert left.done
    (question, answer) = conversations.load("ann", conversation).turns
    assert (question.content, answer.content, answer.answer) == ("q", left.latest.text, left.latest)
    assert left.latest.finish_reason == "stopped"
    assert ended.error == "This answer cannot be kept: disk full"


def test_an_answer_that_ends_before_its_first_word_says_so():
    for reason, words in (("stopped", "Stopped before the first word."), ("broken", "Broke off before the first word."),
                          ("stop", "The model had nothing to say.")):  # fmt: skip
        assert Answer(finish_reason=reason, seconds=3.0).in_words() == words
    assert Answer(seconds=3.0).in_words() == "Reading your prompt… 3 s"


@pytest.mark.parametrize("line", ['{"error": "overloaded"}', '{"choices": 5}', "5", "{"])
def test_a_stream_in_another_form_is_an_error_in_words(line):
    async def lines():
        yield f"data: {line}\n".encode()

    async def read() -> list[Answer]:
        return [answer async for answer in _read(lines(), 0.0)]

    with pytest.raises((ServerError, ValueError), match=r"overloaded|not in OpenAI's form|unexpected end"):
        asyncio.run(read())


def test_a_secret_that_anybody_could_guess_is_refused(tmp_path):
    (tmp_path / "cookie-secret").touch()
    with pytest.raises(DataError, match="is too short for a secret; delete it, and a new one is made"):
        secret_of(tmp_path)


def test_wrong_commands_are_one_line(server, tmp_path):
    port = server.rsplit(":", 1)[1]
    done = run_lorry("chat", "--port", port)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("(Address already in use); choose another port with --port")
    done = run_lorry("chat", "--users-file", "x", "--user-header", "y")
    assert done.stderr.splitlines()[-1].endswith("are two ways to know a user; choose one")
    done = run_lorry("feedback", "--data-dir", str(tmp_path))
    assert "no chat page has kept anything there; name its folder with --data-dir" in done.stderr
    Database(tmp_path / "chat.sqlite").close()
    done = run_lorry("feedback", "--data-dir", str(tmp_path))
    assert "no example to learn from yet: nobody has liked or disliked an answer" in done.stderr
