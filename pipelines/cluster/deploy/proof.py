"""Whether a server gives the answer that the exported file gave: its manifest's proof answer.

Kernels of other processors round otherwise, so greedy answers of the same file may part where two tokens are about
equally likely. The answers agree if they are equal up to a token at which the expected text is among the likeliest
alternatives, by a log probability that is at most ``NEAR_TIE`` lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEAR_TIE = 1.0
N_ALTERNATIVES = 5
_TAGS = ("<think>", "</think>")


@dataclass(frozen=True)
class Comparison:
    """``agrees`` is None where there was nothing to compare with."""

    agrees: bool | None
    explanation: str


def compare(expected: str, choice: Mapping[str, Any]) -> Comparison:
    """Compare an answer in OpenAI's form, with its log probabilities, with the expected text."""
    message = choice["message"]
    answer = f"{message.get('reasoning_content') or ''}{message.get('content') or ''}"
    wanted, got = _plain(expected), _plain(answer)
    if wanted == got:
        return Comparison(True, f"as its manifest says: {got!r}")
    difference = f"the manifest says {wanted!r}, the server answers {got!r}"
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if _parts_at_a_near_tie(wanted, tokens):
        return Comparison(True, f"as its manifest says, up to a token that is about equally likely ({difference})")
    return Comparison(False, difference)


def _parts_at_a_near_tie(wanted: str, tokens: Sequence[Mapping[str, Any]]) -> bool:
    rest = wanted.encode()
    begun = False
    for token in tokens:
        text = _bytes_of(token) if begun else _bytes_of(token).lstrip()
        begun = begun or bool(text)
        if rest.startswith(text):
            rest = rest[len(text) :]
            continue
        return any(
            token["logprob"] - other["logprob"] <= NEAR_TIE and _bytes_of(other) and rest.startswith(_bytes_of(other))
            for other in token.get("top_logprobs") or []
        )
    return False


def _bytes_of(token: Mapping[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else str(token["token"]).encode()


def _plain(text: str) -> str:
    for tag in _TAGS:
        text = text.replace(tag, "")
    return text.strip()
