"""The server under load that lasts: `make soak`. A model of the tests, over HTTP, as clients and probes see it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from tests.benchmarks.crowd import Crowd, crowd
from tests.benchmarks.streams import percentile
from tests.conftest import free_port, lorry_process

pytestmark = pytest.mark.slow

WORDS = ["Lorry", "what", "carries", "data", "chat", "the"]
N_STREAMS, N_AT_ONCE, N_PARALLEL = 2000, 24, 8
MALFORMED: list[bytes] = [
    b"{", b"[]", b'{"model": "m"}', b'{"model": "m", "messages": 5}', b"\xff\xfe",
    b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
]  # fmt: skip


@dataclass
class Seen:
    """What the clients saw."""

    ended: int = 0
    given_up: int = 0
    wrong: list[str] = field(default_factory=list)
    livez: list[float] = field(default_factory=list)


@pytest.fixture
def process(tiny_run) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--port", str(port), "--model-id", "m", "--parallel", str(N_PARALLEL), "--prefix-cache-mb", "8"]
    with lorry_process("serve", tiny_run.model, *flags, ready=f"{address}/readyz") as child:
        yield address, psutil.Process(child.pid)


async def ask(client: httpx.AsyncClient, seen: Seen, draw: random.Random) -> None:
    max_tokens = draw.randrange(1, 24)
    words = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 40)))
    messages = [{"role": "user", "content": words}]
    if draw.random() < 0.5:
        messages.insert(0, {"role": "system", "content": "You are a helpful assistant who knows Lorry well."})
    body = {
        "model": "m", "messages": messages, "max_tokens": max_tokens, "stream": True,
        "temperature": draw.choice([0, 1]), "stream_options": {"include_usage": True},
    }  # fmt: skip
    leave_after = draw.randrange(1, 8) if draw.random() < 0.2 else None
    n_events, reason, usage = 0, None, None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            data = json.loads(line.removeprefix("data: "))
            usage = data.get("usage") or usage
            for choice in data["choices"]:
                reason = choice["finish_reason"] or reason
            n_events += 1
            if n_events == leave_after:
                seen.given_up += 1
                return
    seen.ended += 1
    if reason not in ("stop", "length"):
        seen.wrong.append(f"finish_reason {reason}")
    elif usage is None or (reason == "length") != (usage["completion_tokens"] == max_tokens):
        seen.wrong.append(f"{reason} with {usage}, asked for {max_tokens}")


async def probe(address: str, seen: Seen, over: asyncio.Event) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        while not over.is_set():
            started = time.monotonic()
            assert (await client.get("/livez")).status_code == 200
            seen.livez.append(time.monotonic() - started)
            await asyncio.sleep(0.1)


async def clients(address: str, seen: Seen, n: int, seed: int) -> None:
    draw = random.Random(seed)
    slots = asyncio.Semaphore(N_AT_ONCE)

    async with httpx.AsyncClient(base_url=address, timeout=120, limits=httpx.Limits(max_connections=200)) as client:

        async def one() -> None:
            async with slots:
                if draw.random() < 0.05:
                    bad = await client.post("/v1/chat/completions", content=draw.choice(MALFORMED))
                    assert bad.status_code == 400, bad.text
                await ask(client, seen, draw)

        await asyncio.gather(*(one() for _ in range(n)))


def gauge(address: str, name: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_2000_streams_with_probes_disconnects_and_malformed_requests(process):
    address, server = process

    async def scenario() -> tuple[Seen, float]:
        await clients(address, Seen(), 200, seed=1)
        warm = server.memory_info().rss
        seen, over = Seen(), asyncio.Event()
        probing = asyncio.create_task(probe(address, seen, over))
        await clients(address, seen, N_STREAMS, seed=2)
        over.set()
        await probing
        return seen, server.memory_info().rss / warm

    seen, memory = asyncio.run(scenario())
    assert seen.wrong == []
    assert seen.ended + seen.given_up == N_STREAMS
    assert seen.given_up > 100
    deadline = time.monotonic() + 10
    while gauge(address, "lorry_requests_running") > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gauge(address, "lorry_requests_running") == gauge(address, "lorry_requests_waiting") == 0
    print(f"livez p99 {percentile(seen.livez, 0.99) * 1000:.1f} ms; memory {100 * (memory - 1):+.1f} %")
    assert percentile(seen.livez, 0.99) < 0.05
    assert memory < 1.05


def test_ten_times_the_load_is_refused_and_the_admitted_are_answered(process):
    """What it costs those who are admitted is measured by ``tests/benchmarks/serving.py --only flood``."""
    address, _ = process
    url, full = httpx.URL(address), N_PARALLEL + 64

    async def scenario() -> list[Crowd]:
        return [await crowd(url.host, url.port, "m", n_clients, 15, WORDS) for n_clients in (full, 10 * full)]

    alone, flooded = asyncio.run(scenario())
    assert alone.wrong == flooded.wrong == []
    assert alone.refusals == []
    assert len(flooded.refusals) > 9 * full - 64
    assert flooded.ended > full
