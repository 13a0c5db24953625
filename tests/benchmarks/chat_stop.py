"""Stop on the chat page: how long until the model server's slot is free, by its own metrics.

    python tests/benchmarks/chat_stop.py [--workdir .lorry-bench] [--stops 20]

Serves the model of ``serving.py`` (a Llama-3.2-1B in shape, random weights) and the page over it, and lets a visitor
press Stop in the middle of an answer, and in the middle of a prompt of 3,000 tokens that is being read. Prints a table
and exits 1 where a stop takes 200 ms or longer, or an answer had ended by itself. Takes about 5 minutes on 4 cores.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.runtime.cores import usable_cores
from tests.benchmarks import big_llama
from tests.benchmarks.streams import median, percentile
from tests.chat_visitor import Visitor
from tests.conftest import free_port, lorry_process

PROMISED_SECONDS = 0.2
LONG_PROMPT, SHORT_PROMPT = 3000, 40
# Until the server reads, and until a few words have come.
SECONDS_INTO_PROMPT, SECONDS_INTO_ANSWER = (1.0, 3.0), (0.0, 2.0)


async def running(server: httpx.AsyncClient) -> int:
    """Requests that have a slot of the server."""
    lines = (await server.get("/metrics")).text.splitlines()
    return int(float(next(line for line in lines if line.startswith("lorry_requests_running ")).split()[1]))


async def stop(visitor: Visitor, server: httpx.AsyncClient, draw: random.Random, n_words: int) -> float:
    """Ask, stop; gives the seconds from the press until no request has a slot."""
    visitor.conversation = ""
    seen = ""
    first = asyncio.Event()

    async def look() -> None:
        nonlocal seen
        async for seen in visitor.ask(big_llama.words(n_words, draw.randrange(1 << 60))):
            if seen:
                first.set()

    looking = asyncio.create_task(look())
    if n_words == LONG_PROMPT:
        await asyncio.sleep(draw.uniform(*SECONDS_INTO_PROMPT))
        assert not seen
    else:
        await first.wait()
        await asyncio.sleep(draw.uniform(*SECONDS_INTO_ANSWER))
    assert await running(server) == 1
    pressed = time.monotonic()
    pressing = asyncio.create_task(visitor.stop())
    while await running(server):
        pass
    took = time.monotonic() - pressed
    await asyncio.gather(looking, pressing)
    return took


async def stops(page: str, server: str, n_stops: int) -> dict[str, list[float]]:
    """Seconds of each stop, by what the server was doing."""
    draw = random.Random(0)
    seen: dict[str, list[float]] = {"an answer is written": [], f"{LONG_PROMPT:,} tokens are read": []}
    async with (
        httpx.AsyncClient(base_url=server, timeout=60) as metrics,
        httpx.AsyncClient(timeout=300) as client,
    ):
        model = (await metrics.get("/v1/models")).json()["data"][0]["id"]
        visitor = Visitor(page, client, model)
        await visitor.arrive()
        for _ in range(n_stops):
            for took, n_words in zip(seen.values(), (SHORT_PROMPT, LONG_PROMPT), strict=True):
                took.append(await stop(visitor, metrics, draw, n_words))
    return seen


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench"))
    parser.add_argument("--stops", type=int, default=20, help="of each kind")
    options = parser.parse_args()
    model = big_llama.make(options.workdir.absolute() / "serving" / "llama-1b-Q4_K_M.gguf")
    server, page = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    serve = ["serve", model, "--n-ctx", "4096", "--port", server.rpartition(":")[2]]
    with tempfile.TemporaryDirectory() as folder:
        chat = ["chat", "--server", f"{server}/v1", "--port", page.rpartition(":")[2], "--data-dir", folder]
        with lorry_process(*serve, ready=f"{server}/readyz"), lorry_process(*chat, ready=f"{page}/livez"):
            seen = asyncio.run(stops(page, server, options.stops))
    title = f"from Stop to a free slot, {usable_cores()} cores, {time.strftime('%Y-%m-%d')}"
    table = Table(title=title, title_justify="left")
    for heading in ("while", "stops", "median", "95th percentile", "longest", "promised", ""):
        table.add_column(heading)
    good = True
    for what, took in seen.items():
        holds = max(took) < PROMISED_SECONDS
        good = good and holds
        figures = (f"{value * 1000:.0f} ms" for value in (median(took), percentile(took, 0.95), max(took)))
        table.add_row(what, str(len(took)), *figures, "under 200 ms", "ok" if holds else "SHORT")
    Console(width=140).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
