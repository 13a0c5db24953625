"""A visitor of the chat page without a browser: sends the requests that the page's own script does."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx


async def events(client: httpx.AsyncClient, method: str, url: str, **options: object) -> AsyncIterator[str]:
    """The data of a stream of server-sent events."""
    async with client.stream(method, url, **options) as response:  # type: ignore[arg-type]
        assert response.status_code == 200, (response.status_code, await response.aread())
        async for line in response.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield line.removeprefix("data: ")


@dataclass
class Visitor:
    """A browser with the page open; ``client`` holds its cookie."""

    address: str
    client: httpx.AsyncClient
    model: str = "stub"
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    conversation: str = ""
    # Requests that the page's script sends meanwhile.
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    async def arrive(self) -> str:
        """Load the page and what its script requests at once; returns the responses as JSON."""
        await self.client.get(self.address)
        config = (await self.client.get(f"{self.address}/config")).json()
        question = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "question")
        calls = config["dependencies"]
        asking = next(call for call in calls if [question, "submit"] in call["targets"])
        self._ask = asking["id"]
        conversation = asking["inputs"][2]
        self._conversation_output = asking["outputs"].index(conversation)
        stop = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "stop")
        self._stop = next(call["id"] for call in calls if [stop, "click"] in call["targets"])
        self._list = next(call["id"] for call in calls if [conversation, "change"] in call["targets"])
        loads = [call for call in calls if call["backend_fn"] and "load" in (event for _, event in call["targets"])]
        after = [
            call for call in calls if call["backend_fn"] and call["trigger_after"] in {call["id"] for call in loads}
        ]
        return json.dumps([await self._call(call["id"], [""] * len(call["inputs"])) for call in [*loads, *after]])

    async def ask(self, question: str) -> AsyncIterator[str]:
        """The answer so far, each time that the page would draw it; the last one is complete."""
        asked = [question, "", self.conversation, self.model, "", 0, 1, 256, None]
        started = await self._call(self._ask, asked)
        if self.conversation != started["data"][self._conversation_output]:
            self.conversation = started["data"][self._conversation_output]
            self._background.add(asyncio.create_task(self._call(self._list, [self.conversation])))
        snapshot: dict[str, Any] = {}
        async for data in events(self.client, "GET", f"{self.address}/answers/{self.conversation}"):
            if not data:
                break
            changed = json.loads(data)
            grown = {key: snapshot[key] + rest for key, rest in changed.pop("appended", {}).items()}
            snapshot |= {**changed, **grown}
            yield snapshot["text"]
            if snapshot["done"]:
                await asyncio.gather(*self._background)
                self._background.clear()
                return
        raise AssertionError("a stream ended without its last snapshot")

    async def stop(self) -> None:
        """Press Stop."""
        await self._call(self._stop, [self.conversation])

    async def _call(self, number: int, data: list[object]) -> Any:
        call = {"session_hash": self.session, "event_data": None, "trigger_id": None, "fn_index": number, "data": data}
        answer = await self.client.post(f"{self.address}/gradio_api/run/predict", json=call)
        assert answer.status_code == 200, answer.text
        return answer.json()
