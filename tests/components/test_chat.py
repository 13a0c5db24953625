"""The chat page's side of the wire, against the real server and against none."""

from __future__ import annotations

import asyncio
import itertools

import openai
import pytest

from components.chat.answers import Answer, ServerError, Settings, stream_answer
from components.chat.page import _ask, _for_server, _with_answer, _without_answer
from tests.conftest import free_port, run_lorry

QUESTION = [{"role": "user", "content": "Hello there"}]


async def answers_of(address: str, messages=QUESTION, **settings) -> list[Answer]:
    async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
        wanted = Settings(**{"temperature": 0.0, "max_tokens": 12, **settings})
        return [answer async for answer in stream_answer(client, messages, wanted)]


def test_an_answer_grows_and_ends_with_its_figures(server):
    answers = asyncio.run(answers_of(f"{server}/v1"))
    assert answers[0].in_words() == "Reading your message…"
    texts = [answer.text for answer in answers]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    last = answers[-1]
    assert last.finish_reason in ("stop", "length")
    assert 0 < last.n_tokens <= 12
    assert last.first_token_seconds is not None
    assert 0 < last.first_token_seconds <= last.seconds
    assert f"{last.n_tokens} tokens · " in last.in_words()
    assert "first token after" in last.in_words()


def test_an_answer_cut_at_the_limit_says_so():
    assert "cut at the length limit" in Answer("x", 9, 0.1, 1.0, "length").in_words()


def test_tokens_per_second_count_from_the_first_token():
    assert Answer("x", 11, 0.5, 2.5, "stop").tokens_per_second == pytest.approx(5.0)
    assert Answer("x", 1, 0.5, 0.5, "stop").tokens_per_second is None


def test_a_server_that_is_gone_is_said_in_words():
    address = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(ServerError, match=r"The model server at .* does not answer. Is it running\? Try again."):
        asyncio.run(answers_of(address))


def test_a_refusal_shows_the_servers_own_words(server):
    with pytest.raises(
        ServerError, match=r"The model server refuses: the prompt has \d+ tokens and the context holds 512"
    ):
        asyncio.run(answers_of(f"{server}/v1", [{"role": "user", "content": "word " * 2000}]))


def test_the_conversation_goes_to_the_server_with_its_system_prompt():
    history = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert _for_server(history, " ") == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert _for_server(history[:1], "Be kind.")[0] == {"role": "system", "content": "Be kind."}


def test_asking_retrying_and_answering_change_the_conversation_as_they_should():
    assert _ask("  ", []) == ("  ", [])
    assert _ask("hi", []) == ("", [{"role": "user", "content": "hi"}])
    answered = _with_answer([{"role": "user", "content": "hi"}], Answer("yes"))
    assert _without_answer(answered) == [{"role": "user", "content": "hi"}]
    assert _with_answer([], Answer()) == []


def test_a_port_in_use_is_one_line(server):
    port = server.rsplit(":", 1)[1]
    done = run_lorry("chat", "--port", port)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("(Address already in use); choose another port with --port")
