"""Clients that stream answers from an OpenAI-compatible server, and what they see of its pace."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx


@dataclass
class Stream:
    """One answer: when it was asked for, and when each token came; seconds of ``time.monotonic``."""

    asked: float
    times: list[float] = field(default_factory=list)

    @property
    def first_token_seconds(self) -> float:
        return self.times[0] - self.asked

    @property
    def tokens_per_second(self) -> float:
        """After the first token."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    def gaps(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Pauses between tokens; those that touch the time between ``since`` and ``until``."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [after - before for before, after in pairs if after >= since and before <= until]


@dataclass(frozen=True)
class Load:
    """What a number of clients saw together."""

    streams: list[Stream]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return sum(len(stream.times) for stream in self.streams) / self.seconds

    @property
    def gaps(self) -> list[float]:
        return [gap for stream in self.streams for gap in stream.gaps()]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Client:
    """One server's address, with connections that stay open."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.model = httpx.get(f"{address}/v1/models", timeout=60).json()["data"][0]["id"]
        # A connection for each answer: llama-server closes some that a client would use again.
        self._http = httpx.AsyncClient(timeout=900, limits=httpx.Limits(max_keepalive_connections=0))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def stream(self, prompt: str, max_tokens: int, *, system: str = "", into: Stream | None = None) -> Stream:
        """Ask, and note when each token comes."""
        stream = into if into is not None else Stream(0.0)
        stream.asked = time.monotonic()
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        body = {"model": self.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}
        async with self._http.stream("POST", f"{self.address}/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, (response.status_code, await response.aread())
            async for line in response.aiter_lines():
                if line.startswith("data: {") and _has_text(line):
                    stream.times.append(time.monotonic())
        assert stream.times, f"{self.address}: an answer without a token"
        return stream

    async def load(self, prompts: Sequence[Sequence[str]], max_tokens: int) -> Load:
        """As many clients as there are lists of prompts; each asks its prompts one after the other."""
        streams: list[Stream] = []

        async def one(own: Sequence[str]) -> None:
            for prompt in own:
                streams.append(await self.stream(prompt, max_tokens))

        started = time.monotonic()
        await asyncio.gather(*map(one, prompts))
        return Load(streams, time.monotonic() - started)


def _has_text(line: str) -> bool:
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return bool(choices) and bool(choices[0]["delta"].get("content"))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
