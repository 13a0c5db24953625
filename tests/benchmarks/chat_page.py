"""Many people at once on the chat page, over a stub with known delays: what the page adds to the first token.

    python tests/benchmarks/chat_page.py [--users 50] [--questions 3] [--tokens-per-second 10]

Each user has a session and a cookie of its own and speaks to the page as its script in the browser does. They come in
over the time that one answer takes, and then all have an answer running or read one for up to a second. The stub's own
time is measured by the same number of clients without a page between. Prints a table and exits 1 where the page adds
50 ms or more to the 95th percentile, or a stream is not complete.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from tests.benchmarks.streams import median, percentile
from tests.chat_visitor import Visitor, events
from tests.conftest import answers, free_port, lorry_process
from tests.openai_stub import Stub

FIRST_SECONDS, N_WORDS, SECONDS_TO_THINK = 0.3, 60, 1.0
PROMISED_SECONDS = 0.05
ANSWER = " ".join(f"word{number}" for number in range(N_WORDS))


@dataclass(frozen=True)
class Direct:
    """A client of the stub itself."""

    address: str
    client: httpx.AsyncClient

    async def arrive(self) -> None:
        """Open the connection."""
        await self.client.get(f"{self.address}/v1/models")

    async def ask(self) -> float:
        """Ask; gives the seconds until the first token."""
        body = {"model": "stub", "messages": [{"role": "user", "content": "tell"}], "stream": True}
        asked, first = time.monotonic(), 0.0
        async for data in events(self.client, "POST", f"{self.address}/v1/chat/completions", json=body):
            if "word0" in data and not first:
                first = time.monotonic() - asked
        return first


class ThroughPage:
    """A visitor of the page."""

    def __init__(self, address: str, client: httpx.AsyncClient) -> None:
        self._visitor = Visitor(address, client)

    async def arrive(self) -> None:
        """Load the page."""
        await self._visitor.arrive()

    async def ask(self) -> float:
        """Ask; gives the seconds from the press until the first token is there to be drawn."""
        asked, first, seen = time.monotonic(), 0.0, ""
        async for seen in self._visitor.ask("tell"):
            if seen and not first:
                first = time.monotonic() - asked
        assert seen == ANSWER
        return first


async def crowd(
    address: str, n_users: int, n_questions: int, answer_seconds: float, kind: type[Direct] | type[ThroughPage]
) -> list[float]:
    """Seconds until the first token of every question of every user. All have arrived before the first one asks."""
    firsts: list[float] = []

    async def asks(user: Direct | ThroughPage, number: int) -> None:
        draw = random.Random(number)
        await asyncio.sleep(draw.uniform(0, answer_seconds))
        for _ in range(n_questions):
            firsts.append(await user.ask())
            await asyncio.sleep(draw.uniform(0, SECONDS_TO_THINK))

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(timeout=120)) for _ in range(n_users)]
        users = [kind(address, client) for client in clients]
        for user in users:
            await user.arrive()
        await asyncio.gather(*map(asks, users, range(n_users)))
    return firsts


def serve_stub(port: int, delta_seconds: float) -> None:
    """The stub, in a process of its own."""
    with Stub(first_seconds=FIRST_SECONDS, delta_seconds=delta_seconds, answers={"tell": ANSWER}, port=port):
        while True:
            time.sleep(1)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--questions", type=int, default=3, help="of each user")
    parser.add_argument("--tokens-per-second", type=float, default=10.0, help="of each answer of the stub")
    parser.add_argument("--stub", type=int, metavar="PORT", help="only serve the stub")
    options = parser.parse_args()
    delta_seconds = 1 / options.tokens_per_second
    if options.stub:
        serve_stub(options.stub, delta_seconds)
    answer_seconds = FIRST_SECONDS + N_WORDS * delta_seconds
    stub_port, port = free_port(), free_port()
    stub, page = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--stub", str(stub_port)])
    try:
        while not answers(f"{stub}/v1/models"):
            assert child.poll() is None
            time.sleep(0.1)
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--server", f"{stub}/v1", "--port", str(port), "--data-dir", folder]
            with lorry_process("chat", *flags, ready=f"{page}/livez"):
                asyncio.run(crowd(page, 2, 1, 0.0, ThroughPage))
                without = asyncio.run(crowd(stub, options.users, options.questions, answer_seconds, Direct))
                with_page = asyncio.run(crowd(page, options.users, options.questions, answer_seconds, ThroughPage))
            with closing(sqlite3.connect(Path(folder) / "chat.sqlite")) as tables:
                whole = "SELECT count(*) FROM turn WHERE role = 'assistant' AND content = ?"
                (n_whole,) = tables.execute(whole, (ANSWER,)).fetchone()
    finally:
        child.terminate()
        child.wait()
    added = percentile(with_page, 0.95) - percentile(without, 0.95)
    title = f"{options.users} users, {options.tokens_per_second:g} tokens/s each, {time.strftime('%Y-%m-%d')}"
    table = Table(title=title, title_justify="left")
    for heading in ("first token after", "answers", "median", "95th percentile"):
        table.add_column(heading)
    for name, seen in (("the stub alone", without), ("the page over the stub", with_page)):
        table.add_row(name, str(len(seen)), f"{median(seen) * 1000:.0f} ms", f"{percentile(seen, 0.95) * 1000:.0f} ms")
    Console().print(table)
    # Two were asked beforehand, so that nothing is loaded any more.
    holds = added < PROMISED_SECONDS and n_whole == options.users * options.questions + 2
    print(f"{n_whole - 2} of {options.users * options.questions} answers are whole")
    print(
        f"the page adds {added * 1000:.0f} ms to the 95th percentile (promised: under 50): {'ok' if holds else 'SHORT'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
