"""A server's answer beside the proof answer of its model's manifest."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cluster.deploy.proof import NEAR_TIE, compare

EXPECTED = "Lorry is a program."


def choice(*tokens: str, alternatives: dict[int, tuple[str, float]] | None = None, **message: str) -> dict[str, Any]:
    """An answer of these tokens; ``alternatives`` gives, by the token's index, another one and how much less likely."""
    content = []
    for index, token in enumerate(tokens):
        top = [_logprob(token, -1.0)]
        if alternatives and index in alternatives:
            other, behind = alternatives[index]
            top.append(_logprob(other, -1.0 - behind))
        content.append({**_logprob(token, -1.0), "top_logprobs": top})
    return {"message": {"content": "".join(tokens), **message}, "logprobs": {"content": content}}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "bytes": list(token.encode()), "logprob": logprob}


def test_the_same_answer_agrees_whatever_white_space_is_around_it():
    found = compare(f" {EXPECTED}\n", choice("Lorry", " is", " a", " program."))
    assert found.agrees
    assert "'Lorry is a program.'" in found.explanation


def test_another_answer_does_not_and_both_are_shown():
    found = compare(EXPECTED, choice("Paris", " is", alternatives={0: ("London", 0.1)}))
    assert found.agrees is False
    assert found.explanation == "the manifest says 'Lorry is a program.', the server answers 'Paris is'"


@pytest.mark.parametrize(("behind", "agrees"), [(NEAR_TIE - 0.01, True), (NEAR_TIE + 0.01, False)])
def test_answers_may_part_at_a_token_that_is_about_as_likely(behind, agrees):
    found = compare(EXPECTED, choice("Lorry", " is", " the", " best", alternatives={2: (" a", behind)}))
    assert found.agrees is agrees


def test_an_alternative_that_the_manifest_does_not_go_on_with_is_no_excuse():
    assert compare(EXPECTED, choice("Lorry", " was", alternatives={1: (" will", 0.1)})).agrees is False


def test_half_a_character_in_a_token_is_compared_by_its_bytes():
    answer = choice("n")
    answer["message"]["content"] = "nó"
    first, second = "ó".encode()[:1], "ó".encode()[1:]
    for part in (first, second):
        answer["logprobs"]["content"].append({"token": "�", "bytes": list(part), "logprob": -1.0, "top_logprobs": []})
    answer["logprobs"]["content"].append({**_logprob("!", -1.0), "top_logprobs": [_logprob(" é", -1.2)]})
    answer["message"]["content"] += "!"
    assert compare("nó é", answer).agrees
    assert compare("nò é", answer).agrees is False


def test_the_reasoning_is_part_of_the_answer_and_its_tags_are_not():
    answer = choice("4", reasoning_content="2 and 2\n")
    assert compare("<think>2 and 2\n</think>4", answer).agrees


def test_an_answer_that_ends_earlier_is_another_one():
    assert compare(EXPECTED, choice("Lorry", " is")).agrees is False


def test_a_server_without_log_probabilities_is_compared_by_its_text():
    answer = {"message": {"content": "Lorry is"}, "logprobs": None}
    assert compare("Lorry is", answer).agrees
    assert compare("Lorry was", answer).agrees is False
