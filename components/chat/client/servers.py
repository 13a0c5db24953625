"""The model servers that the page asks, and the models that they serve."""

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
from components.chat.storage.labels import Labels
from components.errors import DataError

SECONDS_TO_CONNECT, SECONDS_TO_LIST = 10.0, 5.0
# A server that reads a long prompt is silent for as long as that takes.
SECONDS_OF_SILENCE = 600.0
NOT_THERE = "No model server answers at {}. Is it running?"
LONGEST_LINE_BYTES = 1 << 20
EXAMPLE_PROMPT: TypeAdapter[str] = TypeAdapter(ExamplePrompt)


class Refused(Exception):
    """An answer that is none. ``retry_after`` is in seconds, or None where the server does not say.

    ``told`` is all that the server said, its codes included.
    """

    def __init__(self, status: int, words: str, told: str, retry_after: float | None) -> None:
        super().__init__(words)
        self.status = status
        self.told = told
        self.retry_after = retry_after


@dataclass(frozen=True)
class Listed:
    """A model as its server lists it, with what its ``meta`` says: nothing, where the server is not Lorry's."""

    id: str
    example_prompts: tuple[str, ...] = ()
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Listed:
        """A model of a list in OpenAI's form; what is of another form in its ``meta`` is left out."""
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

    async def models(self) -> list[Listed]:
        """What it serves.

        Raises:
            Refused, aiohttp.ClientError, TimeoutError, ValueError: it does not say.
        """
        async with asyncio.timeout(SECONDS_TO_LIST), self._ask("GET", "models") as response:
            listed = await response.json()
        try:
            return [Listed.of(model) for model in listed["data"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.url}/models is no list of models") from error

    @asynccontextmanager
    async def chat(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a streamed answer; leaving closes the request, so the server stops too.

        Raises:
            Refused, aiohttp.ClientError, TimeoutError: there is none.
        """
        async with self._ask("POST", "chat/completions", json=body) as response:
            yield aiter(response.content)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _ask(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._opened().request(method, f"{self.url}/{path}", **options) as response:
            if response.status >= 400:
                retry_after = response.headers.get("Retry-After", "")
                seconds = float(retry_after) if retry_after.replace(".", "", 1).isdigit() else None
                told = await response.text(errors="replace")
                raise Refused(response.status, _said(told, response), told, seconds)
            yield response

    def _opened(self) -> aiohttp.ClientSession:
        # A session belongs to the loop in which it is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=aiohttp.ClientTimeout(sock_connect=SECONDS_TO_CONNECT, sock_read=SECONDS_OF_SILENCE),
                read_bufsize=LONGEST_LINE_BYTES,
                trust_env=True,
            )
        return self._session


@dataclass(frozen=True)
class Model:
    """A model of one server; ``label`` is what users see, and different for each."""

    id: str
    label: str
    server: Server
    example_prompts: tuple[str, ...]
    generation: GenerationDefaults


class Servers:
    """OpenAI-compatible servers, each an address or ``NAME=ADDRESS``."""

    def __init__(self, addresses: Sequence[str], api_key: str, labels: Labels | None = None) -> None:
        """Ask nobody yet.

        Raises:
            DataError: an address is none.
        """
        self._servers: dict[str, Server] = {}
        for address in addresses:
            name, separator, url = address.partition("=")
            if not separator or not url.startswith("http"):
                name = url = address.rstrip("/")
            if not url.startswith(("http://", "https://")):
                raise DataError(
                    f"{address!r} is no address of a server; give one as http://HOST:PORT/v1 or NAME=http://…"
                )
            if name in self._servers:
                raise DataError(f"two servers are called {name!r}; give each its own name: NAME=ADDRESS")
            self._servers[name] = Server(url, api_key)
        self._labels = labels or Labels()
        self._nameless = {name for name, server in self._servers.items() if name == server.url}
        self._known: dict[str, Model] = {}
        self.listed: list[Model] = []
        self._silent: list[str] = []
        # What those that answered otherwise had to say, by address.
        self._why: dict[str, str] = {}

    async def models(self) -> list[Model]:
        """What the servers serve now, in their order; those of a server that does not answer are left out."""
        listed = await asyncio.gather(*map(self._listed, self._servers.values()))
        self._silent = [name for name, served in zip(self._servers, listed, strict=True) if not served]
        found = [(name, model) for name, served in zip(self._servers, listed, strict=True) for model in served]
        labels = self._labels.of([(name, model.id) for name, model in found], nameless=self._nameless)
        self.listed = [
            Model(model.id, label, self._servers[name], model.example_prompts, model.generation)
            for (name, model), label in zip(found, labels, strict=True)
        ]
        self._known |= {model.label: model for model in self.listed}
        return self.listed

    async def instead_of(self, gone: Model) -> Model | None:
        """Another model, of the same server if there is one; None where it is still listed, or nothing else is."""
        models = await self.models()
        if any(model.label == gone.label for model in models):
            return None
        return next((model for model in models if model.server is gone.server), next(iter(models), None))

    def known(self, label: str) -> Model | None:
        """A model that was listed once, whether its server answers now or not."""
        return self._known.get(label)

    @property
    def all_known(self) -> list[Model]:
        """All models that were listed once."""
        return list(self._known.values())

    @property
    def silent(self) -> str:
        """Which servers did not answer when they were asked last, in words, or nothing."""
        if not self._silent:
            return ""
        return f"Not there now: {', '.join(self._silent)}. Load the page again once it is."

    @property
    def nothing_served(self) -> str:
        """Why no model can be chosen, when the servers were asked last."""
        return f"{' '.join(self._why.values()) or NOT_THERE.format(self.addresses)} Press Retry to ask again."

    async def _listed(self, server: Server) -> list[Listed]:
        self._why.pop(server.url, None)
        try:
            return await server.models()
        except Refused as error:
            if error.status in (401, 403):
                self._why[server.url] = f"The model server at {server.url} wants a key: set OPENAI_API_KEY ({error})."
            elif error.status == 404:
                self._why[server.url] = (
                    f"{server.url} lists no models: such an address ends with /v1 as a rule ({error})."
                )
        except (aiohttp.ClientError, TimeoutError, ValueError):
            pass
        return []

    @property
    def addresses(self) -> str:
        """For people."""
        return ", ".join(server.url for server in self._servers.values())

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))


def _example_prompts(prompts: Sequence[Any]) -> tuple[str, ...]:
    """Those that a manifest could have."""
    kept = []
    for prompt in prompts[:MAX_EXAMPLE_PROMPTS]:
        with suppress(ValidationError):
            kept.append(EXAMPLE_PROMPT.validate_python(prompt))
    return tuple(kept)


def _said(text: str, response: aiohttp.ClientResponse) -> str:
    """The words of an error in OpenAI's shape, or what came instead of one."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or f"{response.status} {response.reason}"
