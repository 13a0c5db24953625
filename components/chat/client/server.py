"""One OpenAI-compatible server: its list of models and its streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from pydantic import TypeAdapter, ValidationError

from components.artifacts.contracts import MAX_EXAMPLE_PROMPTS, ExamplePrompt, GenerationDefaults
from components.chat.client.errors import HttpError

SECONDS_TO_CONNECT, SECONDS_TO_LIST = 10.0, 5.0
# A server sends nothing during the prefill of a long prompt.
SECONDS_OF_SILENCE = 600.0
LONGEST_LINE_BYTES = 1 << 20
EXAMPLE_PROMPT: TypeAdapter[str] = TypeAdapter(ExamplePrompt)


@dataclass(frozen=True)
class ListedModel:
    """A model as its server lists it. Only Lorry's server sends the prompts and defaults, in ``meta``."""

    id: str
    example_prompts: tuple[str, ...] = ()
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)

    @classmethod
    def from_json(cls, model: Mapping[str, Any]) -> ListedModel:
        """A model of a list in OpenAI's form; whatever is not valid in its ``meta`` is left out."""
        meta = model.get("meta")
        if not isinstance(meta, dict):
            return cls(str(model["id"]))
        settings, prompts = meta.get("default_generation_settings"), meta.get("example_prompts")
        generation, _ = GenerationDefaults.within_bounds(settings if isinstance(settings, dict) else {})
        return cls(str(model["id"]), _example_prompts(prompts if isinstance(prompts, list) else []), generation)


class Server:
    """One OpenAI-compatible API. ``url`` ends with its version, such as ``/v1``."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        self._key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def models(self) -> list[ListedModel]:
        """The models that it lists.

        Raises:
            HttpError, aiohttp.ClientError, TimeoutError, ValueError: it gives no list.
        """
        async with asyncio.timeout(SECONDS_TO_LIST), self._request("GET", "models") as response:
            listed = await response.json()
        try:
            return [ListedModel.from_json(model) for model in listed["data"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.url}/models is not a list of models") from error

    @asynccontextmanager
    async def chat(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a streamed completion; leaving the context closes the request, so the server stops too.

        Raises:
            HttpError, aiohttp.ClientError, TimeoutError: there is no stream.
        """
        async with self._request("POST", "chat/completions", json=body) as response:
            yield aiter(response.content)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._open_session().request(method, f"{self.url}/{path}", **options) as response:
            if response.status >= 400:
                retry_after = response.headers.get("Retry-After", "")
                seconds = float(retry_after) if retry_after.replace(".", "", 1).isdigit() else None
                body = await response.text(errors="replace")
                raise HttpError(response.status, _error_message(body, response), body, seconds)
            yield response

    def _open_session(self) -> aiohttp.ClientSession:
        # A session belongs to the event loop in which it is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=aiohttp.ClientTimeout(sock_connect=SECONDS_TO_CONNECT, sock_read=SECONDS_OF_SILENCE),
                read_bufsize=LONGEST_LINE_BYTES,
                trust_env=True,
            )
        return self._session


def _example_prompts(prompts: Sequence[Any]) -> tuple[str, ...]:
    """The prompts that a model's manifest may have."""
    valid = []
    for prompt in prompts[:MAX_EXAMPLE_PROMPTS]:
        with suppress(ValidationError):
            valid.append(EXAMPLE_PROMPT.validate_python(prompt))
    return tuple(valid)


def _error_message(body: str, response: aiohttp.ClientResponse) -> str:
    """The message of an error in OpenAI's form, or the beginning of what came instead of one."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()[:200] or f"{response.status} {response.reason}"
