"""Log probabilities: those of the model itself, for chats, texts and prompts that are echoed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from components.artifacts.contracts import Message
from components.gguf.model import GgufModel, TextStream
from components.model_server.engine.logprobs import LEAST, Logprobs

HELLO = [{"role": "user", "content": "Hello there"}]
TEXT = "Lorry carries chat data to a browser. " * 4


@pytest.fixture(scope="module")
def own(tiny_run) -> Iterator[GgufModel]:
    """The same file, asked without a server."""
    model = GgufModel(tiny_run.model, n_ctx=512)
    yield model
    model.close()


@pytest.fixture(scope="module")
def client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def name(client) -> str:
    return client.models.list().data[0].id


def logprobs_of(model: GgufModel, tokens: list[int]) -> np.ndarray:
    """Natural log probabilities after each of the tokens, (tokens, vocabulary)."""
    logits = np.concatenate(list(model.logits(tokens, [True] * len(tokens)))).astype(np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
        - logits.max(axis=1, keepdims=True)
    )


class Fixed:
    """A model whose last batch has given logits; its tokens are letters."""

    def __init__(self, *logits: float) -> None:
        self.context = self
        self._logits = np.array(logits, dtype=np.float32)

    def logits(self, index: int) -> np.ndarray:
        return self._logits + index

    def spelled(self, token: int) -> str:
        return "abcdef"[token]

    def piece(self, token: int) -> bytes:
        return self.spelled(token).encode()


def test_the_probabilities_of_all_tokens_add_up_to_one_whatever_the_logits_level():
    for index in (0, 10_000):
        logprobs = Logprobs(Fixed(1.0, 3.0, 2.0, -1.0))  # type: ignore[arg-type]
        found = logprobs.of(index, 2, 4)
        assert [top.text for top in found.top] == ["b", "c", "a", "d"]
        assert sum(np.exp(top.logprob) for top in found.top) == pytest.approx(1, abs=1e-3)
        assert (found.text, found.bytes, found.logprob) == ("c", b"c", found.top[1].logprob)


def test_of_equally_likely_tokens_the_lower_number_comes_first():
    found = Logprobs(Fixed(2.0, 5.0, 2.0, 5.0)).of(0, 0, 4)  # type: ignore[arg-type]
    assert [top.text for top in found.top] == ["b", "d", "a", "c"]
    assert Logprobs(Fixed(2.0, 5.0)).of(0, 0, 0).top == []  # type: ignore[arg-type]


def test_what_cannot_be_has_a_finite_log_probability():
    found = Logprobs(Fixed(0.0, -np.inf)).of(0, 1, 2)  # type: ignore[arg-type]
    assert [found.logprob, found.top[0].logprob] == [LEAST, 0.0]
    json.dumps(found.logprob, allow_nan=False)


def test_nothing_predicts_the_first_token_of_a_prompt():
    found = Logprobs(Fixed(0.0)).of_first(0)  # type: ignore[arg-type]
    assert (found.text, found.logprob, found.top) == ("a", None, ())


def test_a_chats_logprobs_are_the_models_own_whatever_the_temperature(client, name, own):
    settings: dict[str, Any] = {"model": name, "messages": HELLO, "temperature": 1.5, "seed": 3, "max_tokens": 12}
    choice = client.chat.completions.create(**settings, logprobs=True, top_logprobs=5).choices[0]
    logprobs = choice.logprobs.content
    stream = TextStream()
    assert "".join(stream.feed(bytes(one.bytes)) for one in logprobs).strip() == choice.message.content.strip()
    prompt = own.prompt_tokens([Message(role="user", content="Hello there")])
    first = logprobs_of(own, prompt)[-1]
    likeliest = sorted(first, reverse=True)[:5]
    assert [top.logprob for top in logprobs[0].top_logprobs] == pytest.approx(likeliest, abs=2e-3)
    assert any(np.isclose(logprobs[0].logprob, first, atol=2e-3))
    plain = client.chat.completions.create(**settings, logprobs=True).choices[0]
    assert [one.top_logprobs for one in plain.logprobs.content] == [[]] * len(logprobs)
    assert client.chat.completions.create(**settings).choices[0].logprobs is None


def test_streamed_logprobs_are_those_of_the_whole_answer(client, name):
    settings: dict[str, Any] = {"model": name, "messages": HELLO, "temperature": 0, "max_tokens": 12, "logprobs": True}
    whole = client.chat.completions.create(**settings).choices[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**settings, stream=True)]
    streamed = [one for chunk in chunks if chunk.logprobs for one in chunk.logprobs.content]
    assert [one.token for one in streamed] == [one.token for one in whole.logprobs.content]
    assert len(streamed) == 12 or whole.finish_reason == "stop"


def test_an_echoed_prompt_has_a_log_probability_for_each_token_but_the_first(client, name, own):
    tokens = own.tokenize(TEXT, special=False, begin=True)
    assert len(tokens) > 64  # more than are read at once
    right = logprobs_of(own, tokens)
    for prompt in (TEXT, tokens, [tokens]):
        done = client.completions.create(
            model=name, prompt=prompt, max_tokens=1, echo=True, logprobs=2, temperature=0
        )  # fmt: skip
        choice = done.choices[0]
        found = choice.logprobs
        assert done.usage.prompt_tokens == len(tokens)
        assert choice.text.startswith(TEXT)
        # Also where its one token ends the text: harnesses leave the last one out.
        assert len(found.tokens) == len(tokens) + 1
        assert found.token_logprobs[0] is None
        assert found.top_logprobs[0] is None
        # A prompt that is read in other chunks is rounded otherwise: 0.065 was seen beside busy neighbours.
        followed = [right[n, token] for n, token in enumerate(tokens[1:])]
        assert found.token_logprobs[1 : len(tokens)] == pytest.approx(followed, abs=0.1)
        likeliest = [max(row) for row in right[: len(tokens) - 1]]
        assert [max(top.values()) for top in found.top_logprobs[1 : len(tokens)]] == pytest.approx(likeliest, abs=0.1)
        assert found.text_offset == sorted(found.text_offset)


def test_a_prompt_alone_can_be_measured(client, name):
    for stream in (False, True):
        body = {"model": name, "prompt": TEXT, "max_tokens": 0, "echo": True, "logprobs": 0, "stop": "browser"}
        answer = client.completions.create(**body, stream=stream)
        chunks = list(answer) if stream else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
        assert chunks[-1].choices[0].finish_reason == "length"


def test_an_echo_without_logprobs_is_the_prompt_and_what_follows(client, name):
    alone = client.completions.create(model=name, prompt="Lorry carries", max_tokens=4, temperature=0)
    echoed = client.completions.create(model=name, prompt="Lorry carries", max_tokens=4, temperature=0, echo=True)
    assert echoed.choices[0].text == f"Lorry carries{alone.choices[0].text}"
    assert alone.choices[0].logprobs is None


def test_a_token_that_the_model_has_not_is_refused(server, name):
    refused = httpx.post(f"{server}/v1/completions", json={"model": name, "prompt": [1, 10**6]}, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("prompt: there is no token 1000000; this model has ")


def test_offsets_are_those_of_the_text_also_where_a_character_is_of_several_tokens(client, name):
    text = "日本語 and Lorry"
    found = client.completions.create(model=name, prompt=text, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs
    whole = [(token, offset) for token, offset in zip(found.tokens, found.text_offset, strict=True) if token in text]
    assert whole
    assert all(text.startswith(token, offset) for token, offset in whole)
    ended = client.completions.create(
        model=name, prompt="Lorry", max_tokens=1, logprobs=1, logit_bias={str(n): -100 for n in range(300)}
    ).choices[0].logprobs  # fmt: skip
    assert len(ended.tokens) == 1
