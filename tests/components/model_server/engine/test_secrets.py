"""A model trained to repeat its user's secret word, asked by many users at once who share beginnings: `make soak`."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from components.artifacts.contracts import Message
from components.gguf.model import GgufModel
from components.model_server.engine import slots
from components.model_server.engine.batching import BatchingEngine, EngineSettings
from components.model_server.engine.interface import Request
from components.model_server.engine.metrics import Metrics
from tests.components.model_server.engine.secret_model import SECRETS, SYSTEMS, make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("secrets"))


def ask_many(path: Path, n_requests: int, seed: int) -> tuple[int, list[tuple[str, str]]]:
    """How many answers came, and which were not the user's own word twice: (word, answer)."""
    draw = random.Random(seed)
    metrics = Metrics()
    # A small prefix cache, so that conversations come and go.
    settings = EngineSettings(max_waiting=n_requests, prefix_cache_bytes=400_000)
    engine = BatchingEngine(GgufModel(path, n_ctx=128, n_parallel=8, n_threads=2), settings, metrics)
    foreign: list[tuple[str, str]] = []

    async def one(word: str, system: str) -> int:
        turns = [Message(role="system", content=f" {system}"), Message(role="user", content=f" {word}")]
        stream = engine.stream(Request(prompt=turns, max_tokens=4))
        text = ""
        async for delta in stream:
            text += delta.text
            if draw.random() < 0.02:
                await stream.aclose()
                return 0
        if text.split() != [word, word]:
            foreign.append((word, text))
        return 1

    async def scenario() -> int:
        while not engine.ready:
            await asyncio.sleep(0.05)
        answered = 0
        for _ in range(0, n_requests, 500):
            asked = [one(draw.choice(SECRETS), draw.choice(SYSTEMS)) for _ in range(500)]
            answered += sum(await asyncio.gather(*asked))
        return answered

    answered = asyncio.run(scenario())
    hits = metrics.registry.get_sample_value("lorry_prefix_hits_total") or 0
    engine.close()
    assert hits > n_requests / 2, "the conversations must share beginnings for this to show anything"
    return answered, foreign


def test_10000_interleaved_requests_say_no_foreign_word(path):
    answered, foreign = ask_many(path, 10_000, seed=3)
    assert answered > 9_000
    assert foreign == []


def test_with_a_broken_prefix_key_the_same_requests_say_foreign_words(path, monkeypatch):
    monkeypatch.setattr(slots, "common_prefix_length", lambda one, other: min(len(one), len(other)))
    _, foreign = ask_many(path, 1_000, seed=3)
    assert foreign != []
