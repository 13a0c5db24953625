"""Text completions: log probabilities in OpenAI's older form."""

from __future__ import annotations

from components.model_server.engine.interface import Delta, Logprob, TokenLogprob
from components.model_server.http.responses.completion import CompletionBuilder
from tests.components.model_server.http.responses.building import body_of, chunks_of, events_of

END = Delta("", "length", 1, 3)
# "é" is two bytes, each a token of its own.
HALVES = [TokenLogprob("\ufffd", b"\xc3", -0.5), TokenLogprob("\ufffd", b"\xa9", -0.25)]


def token(text: str, logprob: float | None, *top: tuple[str, float]) -> TokenLogprob:
    return TokenLogprob(text, text.encode(), logprob, [Logprob(name, name.encode(), value) for name, value in top])


def builder() -> CompletionBuilder:
    return CompletionBuilder("m", lambda _: None)


def test_without_logprobs_a_completion_has_none():
    assert body_of(builder(), [Delta("Hi"), END])["choices"][0] == {
        "index": 0,
        "text": "Hi",
        "logprobs": None,
        "finish_reason": "length",
    }


def test_logprobs_are_a_list_for_each_property_of_a_token():
    deltas = [
        Delta("Hi", logprobs=[token("Hi", -0.1, ("Hi", -0.1), ("Ho", -2.0))]),
        Delta(" you", logprobs=[token(" you", -0.2)]),
        END,
    ]
    assert body_of(builder(), deltas)["choices"][0]["logprobs"] == {
        "tokens": ["Hi", " you"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"Hi": -0.1, "Ho": -2.0}, {}],
        "text_offset": [0, 2],
    }


def test_the_first_token_of_a_prompt_has_no_logprob_and_no_alternatives():
    logprobs = body_of(builder(), [Delta("Hi", logprobs=[token("Hi", None)]), END])["choices"][0]["logprobs"]
    assert (logprobs["token_logprobs"], logprobs["top_logprobs"]) == ([None], [None])


def test_offsets_are_in_characters_and_half_a_character_is_named_by_its_byte():
    deltas = [Delta("é", logprobs=HALVES), Delta("!", logprobs=[token("!", -1.0)]), END]
    logprobs = body_of(builder(), deltas)["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["bytes:\\xc3", "bytes:\\xa9", "!"]
    assert logprobs["text_offset"] == [0, 0, 1]


def test_streamed_logprobs_joined_are_the_whole_ones():
    deltas = [
        Delta("", logprobs=HALVES[:1]),
        Delta("é", logprobs=HALVES[1:]),
        Delta("!", logprobs=[token("!", -1.0)]),
        END,
    ]
    whole = body_of(builder(), deltas)["choices"][0]["logprobs"]
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks_of(events_of(builder(), deltas))]
    assert {key: [one for part in parts if part for one in part[key]] for key in whole} == whole
