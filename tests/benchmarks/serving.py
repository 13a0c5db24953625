"""The model server beside llama.cpp's own and llama_cpp.server, in one run.

    python tests/benchmarks/serving.py [--workdir .lorry-bench] [--rounds 3] [--only NAME …]

Makes a Llama-3.2-1B in shape with random weights (Q4_K_M, 763 MiB), builds ``llama-server`` and ``llama-bench`` from
the source that llama-cpp-python ships, and lets clients stream from each server in turn; ratios are medians over
rounds, for a shared machine is never as fast twice. Prints one table and exits 1 where a line falls short. Takes about
20 minutes on 4 cores; nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.runtime.cores import usable_cores
from tests.benchmarks import big_llama, peers
from tests.benchmarks.crowd import Crowd, crowd
from tests.benchmarks.streams import Client, Stream, median, percentile
from tests.conftest import ROOT, answers, free_port

N_CTX = 4096
PROMPT_WORDS, ANSWER_TOKENS = 160, 64
CPU_GROUPS = Path("/sys/fs/cgroup/cpu")
LONGEST_START_SECONDS = 180
# Clients that have room, answered or waiting; and how long a crowd keeps asking.
FULL, FLOOD_SECONDS = 72, 40


class Bench:
    """The model, the programs, and the lines of the table."""

    def __init__(self, workdir: Path, rounds: int) -> None:
        self.rounds = rounds
        self.model = big_llama.make(workdir / "serving" / "llama-1b-Q4_K_M.gguf")
        self.llama_server, self.llama_bench = (peers.build(name) for name in ("llama-server", "llama-bench"))
        self.draw = random.Random()
        self.table = Table(title=f"{usable_cores()} cores, {time.strftime('%Y-%m-%d')}", title_justify="left")
        for heading in ("what", "Lorry", "beside", "ratio", "promised", ""):
            self.table.add_column(heading)
        self.good = True

    def line(self, what: str, ours: str, beside: str, ratio: float, promised: str, holds: bool) -> None:
        """Add a line; it is printed at once too, for a run that is cut off."""
        self.good = self.good and holds
        cells = (what, ours, beside, f"{ratio:.3f}", promised, "ok" if holds else "SHORT")
        self.table.add_row(*cells)
        print(" | ".join(cells), flush=True)

    def prompt(self, n_words: int = PROMPT_WORDS) -> str:
        """Words that no server has seen."""
        return big_llama.words(n_words, self.draw.randrange(1 << 60))

    def lorry(self, *flags: str, prefix: tuple[str, ...] = (), n_parallel: int = 8) -> _Server:
        return _Server(
            [*prefix, sys.executable, "-m", "pipelines.cli", "serve", str(self.model), "--n-ctx", str(N_CTX),
             "--parallel", str(n_parallel), *flags, "--port"], "/readyz",
        )  # fmt: skip

    def stock(self, *flags: str, n_parallel: int = 8) -> _Server:
        return _Server(
            [str(self.llama_server), "-m", str(self.model), "-np", str(n_parallel), "-c", str(n_parallel * N_CTX), "-t",
             str(usable_cores()), *flags, "--port"], "/health",
        )  # fmt: skip

    def packaged(self) -> _Server:
        threads = str(usable_cores())
        return _Server(
            [sys.executable, "-m", "llama_cpp.server", "--model", str(self.model), "--n_ctx", str(N_CTX),
             "--interrupt_requests", "false", "--n_threads", threads, "--n_threads_batch", threads, "--port"],
            "/v1/models",
        )  # fmt: skip


class _Server:
    """A program that listens on the port that its last argument names."""

    def __init__(self, command: list[str], ready: str) -> None:
        self._port = free_port()
        self._command, self._ready = [*command, str(self._port)], ready
        self.address = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[str]:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(self._command, cwd=ROOT, env=environment, **quiet)  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + LONGEST_START_SECONDS
            while not answers(self.address + self._ready):
                assert child.poll() is None, f"{self._command} ended with {child.returncode}"
                assert time.monotonic() < deadline, f"{self._command} does not answer"
                time.sleep(0.2)
            yield self.address
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def in_turn(
    bench: Bench, servers: dict[str, _Server], measure: Callable[[Client], Awaitable[float]]
) -> dict[str, list[float]]:
    """What ``measure`` gives for each server, a round after the other; all of them run, one works."""
    seen: dict[str, list[float]] = {name: [] for name in servers}

    async def rounds() -> None:
        for number in range(bench.rounds):
            names = list(servers) if number % 2 == 0 else list(reversed(servers))
            for name in names:
                async with Client(servers[name].address) as client:
                    seen[name].append(await measure(client))

    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server.running())
        asyncio.run(rounds())
    return seen


def ratio(seen: dict[str, list[float]], over: str) -> float:
    """Median of the rounds' ratios, Lorry's over another's."""
    return median([ours / theirs for ours, theirs in zip(seen["lorry"], seen[over], strict=True)])


def told(values: list[float], unit: str = "tok/s") -> str:
    return (
        f"{median(values):.3g} {unit}"
        if len(values) == 1
        else f"{median(values):.3g} {unit} ({min(values):.3g}-{max(values):.3g})"
    )


def throughput(
    bench: Bench, what: str, prompts: Callable[[], list[str]], *, n_parallel: int, least: dict[str, float]
) -> None:
    """All tokens a second of as many clients as there are prompts, beside the servers that ``least`` names."""
    servers = {"lorry": bench.lorry(n_parallel=n_parallel), "llama-server": bench.stock(n_parallel=n_parallel)}
    if "llama_cpp.server" in least:
        servers["llama_cpp.server"] = bench.packaged()

    async def measure(client: Client) -> float:
        return (await client.load([[prompt] for prompt in prompts()], ANSWER_TOKENS)).tokens_per_second

    seen = in_turn(bench, servers, measure)
    for name, promised in least.items():
        found = ratio(seen, name)
        bench.line(what, told(seen["lorry"]), f"{name}: {told(seen[name])}", found, f">= {promised}", found >= promised)


def clients_8(bench: Bench) -> None:
    """Eight clients with prompts that share nothing."""
    least = {"llama-server": 0.95, "llama_cpp.server": 2.0}
    throughput(bench, "8 clients", lambda: [bench.prompt() for _ in range(8)], n_parallel=8, least=least)


def clients_8_shared(bench: Bench) -> None:
    """Eight clients whose prompts begin with the same 300 tokens, new ones in each round."""

    def prompts() -> list[str]:
        beginning = bench.prompt(300)
        return [f"{beginning} {bench.prompt(60)}" for _ in range(8)]

    throughput(bench, "8 clients, 300 tokens shared", prompts, n_parallel=8, least={"llama-server": 1.2})


def clients_16(bench: Bench) -> None:
    """Sixteen clients with prompts that share nothing."""
    throughput(
        bench, "16 clients", lambda: [bench.prompt() for _ in range(16)], n_parallel=16, least={"llama-server": 0.95}
    )


def one_client(bench: Bench) -> None:
    """One client: its decode rate beside llama-bench's at the same depth, its total beside llama-server's."""
    decode: list[float] = []
    raw: list[float] = []

    async def measure(client: Client) -> float:
        load = await client.load([[bench.prompt(20) for _ in range(2)]], ANSWER_TOKENS)
        if client.address == ours.address:
            decode.append(median([stream.tokens_per_second for stream in load.streams]))
            raw.append(raw_decode(bench))
        return load.tokens_per_second

    ours = bench.lorry()
    seen = in_turn(bench, {"lorry": ours, "stock": bench.stock()}, measure)
    found = median([mine / theirs for mine, theirs in zip(decode, raw, strict=True)])
    bench.line(
        "1 client, after the first token", told(decode), f"llama-bench: {told(raw)}", found, ">= 0.95", found >= 0.95
    )
    found = ratio(seen, "stock")
    bench.line(
        "1 client, end to end",
        told(seen["lorry"]),
        f"llama-server: {told(seen['stock'])}",
        found,
        ">= 0.97",
        found >= 0.97,
    )


def raw_decode(bench: Bench) -> float:
    """Tokens a second of llama-bench, behind as many tokens as a short chat has."""
    command = [bench.llama_bench, "-m", bench.model, "-t", str(usable_cores()), "-p", "0", "-n", str(ANSWER_TOKENS)]
    done = subprocess.run([*command, "-d", "40", "-r", "2", "-o", "json"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def neighbours(bench: Bench) -> None:
    """Four streams on an idle machine, and beside two processes that take what they get."""

    async def measure(client: Client) -> float:
        return median((await client.load([[bench.prompt(20)] for _ in range(4)], ANSWER_TOKENS)).gaps)

    servers = {"lorry": bench.lorry(), "stock": bench.stock()}
    idle = in_turn(bench, servers, measure)
    busy_loop = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(busy_loop) for _ in range(2)]
    try:
        busy = in_turn(bench, {"lorry": bench.lorry(), "stock": bench.stock()}, measure)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    found, theirs = (median(busy[name]) / median(idle[name]) for name in ("lorry", "stock"))
    bench.line(
        "4 streams beside 2 busy processes",
        f"{told(busy['lorry'], 's')} a token, idle {told(idle['lorry'], 's')}",
        f"llama-server: {told(busy['stock'], 's')}, {theirs:.1f} times its idle",
        found, "<= 2.5 times idle", found <= 2.5,
    )  # fmt: skip
    found = ratio(idle, "stock")
    bench.line(
        "4 streams, idle",
        told(idle["lorry"], "s"),
        f"llama-server: {told(idle['stock'], 's')}",
        found,
        "<= 1.15",
        found <= 1.15,
    )


def newcomer(bench: Bench) -> None:
    """A prompt of 3,000 tokens arrives while four streams run."""
    servers = {
        "lorry": bench.lorry(),
        "stock": bench.stock(),
        "remedy": bench.stock("-kvu", "-b", "64", "-ub", "64"),
    }
    gaps: dict[str, float] = {}
    firsts: dict[str, float] = {}
    for name, server in servers.items():
        with server.running() as address:
            gaps[name], firsts[name] = asyncio.run(_newcomer(bench, address))
        print(f"newcomer, {name}: p99 gap {gaps[name]:.2f} s, first token {firsts[name]:.1f} s", flush=True)
    found = gaps["lorry"] / gaps["stock"]
    bench.line(
        "gap p99 while 3,000 tokens arrive",
        f"{gaps['lorry']:.2f} s",
        f"llama-server: {gaps['stock']:.2f} s",
        found,
        "<= 0.1",
        found <= 0.1,
    )
    found = gaps["lorry"] / gaps["remedy"]
    bench.line("", "", f"with -kvu -b 64 -ub 64: {gaps['remedy']:.2f} s", found, "<= 1.1", found <= 1.1)
    found = firsts["lorry"] / firsts["stock"]
    bench.line(
        "first token of that prompt", f"{firsts['lorry']:.1f} s",
        f"llama-server: {firsts['stock']:.1f} s; with -kvu …: {firsts['remedy']:.1f} s",
        found, "<= 1.35", found <= 1.35,
    )  # fmt: skip


async def _newcomer(bench: Bench, address: str) -> tuple[float, float]:
    """The 99th percentile of the streams' gaps until the newcomer's first token, and the seconds until that."""
    async with Client(address) as client:
        streams = [Stream(0.0) for _ in range(4)]
        tasks = [asyncio.create_task(client.stream(bench.prompt(20), 1500, into=stream)) for stream in streams]
        while any(len(stream.times) < 8 for stream in streams):
            await asyncio.sleep(0.05)
        arrival = time.monotonic()
        newcomer = await client.stream(bench.prompt(3000), 2)
        seen = [gap for stream in streams for gap in stream.gaps(arrival, newcomer.times[0])]
        # A stream that is silent until now has no gap yet that a token ends.
        seen += [time.monotonic() - stream.times[-1] for stream in streams if stream.times[-1] < newcomer.times[0] - 1]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return percentile(seen, 0.99), newcomer.first_token_seconds


def second_chat(bench: Bench) -> None:
    """Another chat with the same system prompt of 1,000 tokens."""
    firsts, seconds = [], []

    async def rounds(address: str) -> None:
        async with Client(address) as client:
            for _ in range(bench.rounds):
                system = bench.prompt(1000)
                for seen in (firsts, seconds):
                    seen.append((await client.stream(bench.prompt(10), 4, system=system)).first_token_seconds)

    with bench.lorry().running() as address:
        asyncio.run(rounds(address))
    found = median(seconds) / median(firsts)
    bench.line(
        "second chat, same 1,000 tokens",
        told(seconds, "s"),
        f"the first chat: {told(firsts, 's')}",
        found,
        "<= 0.2",
        found <= 0.2,
    )


def quota(bench: Bench) -> None:
    """Under a quota of two CPUs, with no affinity: threads chosen by the server beside every number by hand."""
    with cpu_quota(2.0) as prefix:
        servers = {"lorry": bench.lorry(prefix=prefix)}
        servers |= {str(n): bench.lorry("--n-threads", str(n), prefix=prefix) for n in (1, 2, 3, 4)}

        async def measure(client: Client) -> float:
            load = await client.load([[bench.prompt(20)] for _ in range(2)], ANSWER_TOKENS)
            return load.tokens_per_second

        seen = in_turn(bench, servers, measure)
    best = max("1234", key=lambda name: median(seen[name]))
    found = ratio(seen, best)
    by_hand = ", ".join(f"{name}: {median(seen[name]):.3g}" for name in "1234")
    bench.line(
        "2 clients, quota of 2 CPUs",
        told(seen["lorry"]),
        f"threads by hand: {by_hand} tok/s",
        found,
        ">= 0.95",
        found >= 0.95,
    )


def flood(bench: Bench) -> None:
    """As many clients as the server holds, then ten times as many."""
    full: list[Crowd] = []
    flooded: list[Crowd] = []
    server = bench.lorry("--max-waiting", str(FULL - 8), "--model-id", "m", n_parallel=8)
    with server.running() as address:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(bench.rounds):
            for seen, n_clients in ((full, FULL), (flooded, 10 * FULL)):
                words = bench.prompt().split()
                seen.append(asyncio.run(crowd(host, int(port), "m", n_clients, FLOOD_SECONDS, words)))
                assert not seen[-1].wrong, seen[-1].wrong[:3]
    refusals = [seconds for round_ in flooded for seconds in round_.refusals]
    refusal = percentile(refusals, 0.95)
    bench.line(
        f"{10 * FULL} clients, {FULL} have room", f"{len(refusals)} 429s, p95 {refusal * 1000:.3g} ms", "", refusal,
        "<= 0.05 s", refusal <= 0.05,
    )  # fmt: skip
    p95 = {name: [percentile(round_.gaps, 0.95) for round_ in s] for name, s in (("full", full), ("flooded", flooded))}
    found = median([after / before for after, before in zip(p95["flooded"], p95["full"], strict=True)])
    bench.line(
        "p95 gap of those admitted", told(p95["flooded"], "s"), f"without the excess: {told(p95['full'], 's')}",
        found, "<= 1.2", found <= 1.2,
    )  # fmt: skip


@contextmanager
def cpu_quota(cores: float) -> Iterator[tuple[str, ...]]:
    """A control group with so much CPU time; gives what to put before a command that shall run in it."""
    group = CPU_GROUPS / f"lorry-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * 100_000)))
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        group.rmdir()


LINES = {
    function.__name__: function
    for function in (
        one_client,
        clients_8,
        clients_8_shared,
        clients_16,
        neighbours,
        newcomer,
        second_chat,
        quota,
        flood,
    )
}


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench"))
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is asked in turn")
    parser.add_argument("--only", nargs="+", choices=list(LINES), default=list(LINES), help="some lines of the table")
    options = parser.parse_args()
    bench = Bench(options.workdir.absolute(), options.rounds)
    for name in options.only:
        LINES[name](bench)
    Console(width=180).print(bench.table)
    return 0 if bench.good else 1


if __name__ == "__main__":
    sys.exit(main())
