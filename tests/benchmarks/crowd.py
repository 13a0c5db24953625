"""More clients than a server can hold, each on a connection of its own, who come again when a 429 says that they may.

Plain sockets: with hundreds of clients, an HTTP library costs more than a refusal, and would be what is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

MAX_TOKENS = 40
SECONDS_TO_ARRIVE = 2.0


@dataclass
class Crowd:
    """What the clients saw; times in seconds."""

    ended: int = 0
    refusals: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def crowd(host: str, port: int, model: str, n_clients: int, seconds: float, words: list[str]) -> Crowd:
    """``n_clients`` ask one thing after the other for ``seconds``; prompts are drawn from ``words``."""
    seen, end = Crowd(), time.monotonic() + seconds

    async def client(number: int) -> None:
        await asyncio.sleep(SECONDS_TO_ARRIVE * number / n_clients)
        reader, writer = await asyncio.open_connection(host, port)
        draw = random.Random(number)
        while time.monotonic() < end:
            writer.write(_request(model, " ".join(draw.choices(words, k=12))))
            retry_after = await _answer(reader, seen)
            await asyncio.sleep(min(retry_after, max(0.0, end - time.monotonic())))
        writer.close()

    await asyncio.gather(*map(client, range(n_clients)))
    return seen


def _request(model: str, prompt: str) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": MAX_TOKENS, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: lorry\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader, seen: Crowd) -> float:
    """Read one answer; gives the seconds to wait before the next question."""
    asked = time.monotonic()
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
        if " 429 " in status:
            seen.refusals.append(time.monotonic() - asked)
        else:
            seen.wrong.append(f"{status}: {body[:200]!r}")
        return float(headers.get("retry-after", 1))
    reason, last = None, None
    while size := int(await reader.readline(), 16):
        piece = (await reader.readexactly(size + 2)).decode()
        for line in filter(lambda line: line.startswith("data: {"), piece.splitlines()):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                reason = choice["finish_reason"] or reason
                if choice["delta"].get("content"):
                    now = time.monotonic()
                    if last is not None:
                        seen.gaps.append(now - last)
                    last = now
    await reader.readexactly(2)
    seen.ended += 1
    if reason not in ("stop", "length"):
        seen.wrong.append(f"finish_reason {reason}")
    return 0.0
