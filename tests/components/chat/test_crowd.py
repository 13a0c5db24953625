"""The chat page with many users at once, and what is stored when it is shut down meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.chat_visitor import Visitor
from tests.conftest import free_port, lorry_process
from tests.openai_stub import Stub

# More than Gradio's own bound of 40.
N_VISITORS = 60


@pytest.fixture
def stub():
    with Stub() as stub:
        yield stub


async def crowd(address: str, n_visitors: int, stack: AsyncExitStack) -> list[Visitor]:
    """Visitors who have the page open."""
    clients = [await stack.enter_async_context(httpx.AsyncClient(timeout=60)) for _ in range(n_visitors)]
    visitors = [Visitor(address, client) for client in clients]
    for visitor in visitors:
        await visitor.arrive()
    return visitors


async def follow(visitor: Visitor, seen: set[str]) -> None:
    """Follows an answer that never ends, until the page is gone."""
    with suppress(httpx.HTTPError, AssertionError):
        async for text in visitor.ask("count"):
            if text.startswith("0 "):
                seen.add(visitor.session)


def test_no_user_waits_for_anothers_answer_and_all_answers_are_stored_when_the_page_shuts_down(stub, tmp_path):
    async def scenario(address: str) -> int:
        seen: set[str] = set()
        async with AsyncExitStack() as stack:
            following = [asyncio.create_task(follow(one, seen)) for one in await crowd(address, N_VISITORS, stack)]
            while len(seen) < N_VISITORS and not any(task.done() for task in following):
                await asyncio.sleep(0.1)
            page.send_signal(signal.SIGTERM)
            await asyncio.gather(*following)
        return len(seen)

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--server", f"{stub.address}/v1", "--port", str(port), "--data-dir", str(tmp_path)]
    lines: list[str] = []
    with lorry_process("chat", *flags, ready=f"{address}/livez", lines=lines) as page:
        n_seen = asyncio.run(asyncio.wait_for(scenario(address), 120))
        page.wait(timeout=30)
    assert len(stub.asked) == n_seen == N_VISITORS
    assert not [line for line in lines if "Traceback" in line or "never retrieved" in line], "".join(lines)
    stored = _answers(tmp_path)
    assert len({user for user, _, _ in stored}) == N_VISITORS
    assert {reason for _, _, reason in stored} == {"broken"}
    assert all(content.startswith("0 ") for _, content, _ in stored)


def _answers(folder: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(folder / "chat.sqlite")) as tables:
        asked = "SELECT user, content, finish_reason FROM turn JOIN conversation ON conversation.id = conversation"
        return tables.execute(f"{asked} WHERE role = 'assistant'").fetchall()
