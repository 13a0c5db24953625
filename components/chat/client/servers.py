"""The model servers of the page, and the models that they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.errors import HttpError
from components.chat.client.server import ListedModel, Server
from components.chat.storage.labels import Labels
from components.errors import DataError

NO_ANSWER = "No model server answers at {}. Is it running?"


@dataclass(frozen=True)
class ChatModel:
    """A model of one server; ``label`` is the name that users see, different for each model."""

    id: str
    label: str
    server: Server
    example_prompts: tuple[str, ...]
    generation: GenerationDefaults


class Servers:
    """OpenAI-compatible servers, each given as an address or ``NAME=ADDRESS``."""

    def __init__(self, addresses: Sequence[str], api_key: str, labels: Labels | None = None) -> None:
        """Sends no request yet.

        Raises:
            DataError: an address is not valid, or two servers have one name.
        """
        self._servers: dict[str, Server] = {}
        for address in addresses:
            name, url = _name_and_url(address)
            if name in self._servers:
                raise DataError(f"two servers are called {name!r}; give each its own name: NAME=ADDRESS")
            self._servers[name] = Server(url, api_key)
        self._labels = labels or Labels()
        self._nameless = {name for name, server in self._servers.items() if name == server.url}
        self._known: dict[str, ChatModel] = {}
        self.listed: list[ChatModel] = []
        self._missing: list[str] = []
        # What is wrong with a server that answers, but lists no models; by address.
        self._problems: dict[str, str] = {}

    async def models(self) -> list[ChatModel]:
        """The models served now, in the order of the servers; without those of a server that does not answer."""
        listed = await asyncio.gather(*map(self._list, self._servers.values()))
        self._missing = [name for name, models in zip(self._servers, listed, strict=True) if not models]
        found = [(name, model) for name, models in zip(self._servers, listed, strict=True) for model in models]
        labels = self._labels.labels_of([(name, model.id) for name, model in found], nameless=self._nameless)
        self.listed = [
            ChatModel(model.id, label, self._servers[name], model.example_prompts, model.generation)
            for (name, model), label in zip(found, labels, strict=True)
        ]
        self._known |= {model.label: model for model in self.listed}
        return self.listed

    async def replacement_for(self, model: ChatModel) -> ChatModel | None:
        """Another model, of the same server if possible; None if ``model`` is still listed, or no other one is."""
        models = await self.models()
        if any(known.label == model.label for known in models):
            return None
        return next((known for known in models if known.server is model.server), next(iter(models), None))

    def known(self, label: str) -> ChatModel | None:
        """A model that was listed at some time, whether its server answers now or not."""
        return self._known.get(label)

    @property
    def all_known(self) -> list[ChatModel]:
        """All models that were listed at some time."""
        return list(self._known.values())

    @property
    def missing(self) -> str:
        """A message that names the servers that did not answer when they were last asked; empty if all did."""
        if not self._missing:
            return ""
        return f"Not reachable now: {', '.join(self._missing)}. Load the page again later."

    @property
    def nothing_served(self) -> str:
        """Why no model can be chosen, from when the servers were last asked."""
        return f"{' '.join(self._problems.values()) or NO_ANSWER.format(self.addresses)} Press Retry to ask again."

    async def _list(self, server: Server) -> list[ListedModel]:
        self._problems.pop(server.url, None)
        try:
            return await server.models()
        except HttpError as error:
            if error.status in (401, 403):
                problem = f"The model server at {server.url} wants a key: set OPENAI_API_KEY ({error})."
                self._problems[server.url] = problem
            elif error.status == 404:
                problem = f"{server.url} lists no models: such an address usually ends with /v1 ({error})."
                self._problems[server.url] = problem
        except (aiohttp.ClientError, TimeoutError, ValueError):
            pass
        return []

    @property
    def addresses(self) -> str:
        """The addresses of all servers, for messages."""
        return ", ".join(server.url for server in self._servers.values())

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))


def _name_and_url(address: str) -> tuple[str, str]:
    """The name and URL of a server; the URL is the name if none is given.

    Raises:
        DataError: the address is not valid.
    """
    name, separator, url = address.partition("=")
    if not separator or not url.startswith("http"):
        name = url = address.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{address!r} is not the address of a server; give one as http://HOST:PORT/v1 or NAME=http://…")
    return name, url
