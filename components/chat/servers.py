"""The model servers that the page asks, and the models that they serve."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import openai

from components.errors import DataError

SECONDS_TO_LIST = 5.0


@dataclass(frozen=True)
class Model:
    """A model of one server; ``label`` is what users see, and different for each."""

    id: str
    label: str
    client: openai.AsyncOpenAI


class Servers:
    """OpenAI-compatible servers, each an address or ``NAME=ADDRESS``."""

    def __init__(self, addresses: Sequence[str], api_key: str) -> None:
        """Ask nobody yet.

        Raises:
            DataError: an address is none.
        """
        self._clients: dict[str, openai.AsyncOpenAI] = {}
        for address in addresses:
            name, separator, url = address.partition("=")
            if not separator or not url.startswith("http"):
                name, url = address, address
            if not url.startswith(("http://", "https://")):
                raise DataError(
                    f"{address!r} is no address of a server; give one as http://HOST:PORT/v1 or NAME=http://…"
                )
            if name in self._clients:
                raise DataError(f"two servers are called {name!r}; give each its own name: NAME=ADDRESS")
            self._clients[name] = openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=0)
        self._known: dict[str, Model] = {}

    async def models(self) -> list[Model]:
        """What the servers serve now, in their order; those of a server that does not answer are left out."""
        listed = await asyncio.gather(*(self._ids(name) for name in self._clients))
        found = [(name, id_) for name, ids in zip(self._clients, listed, strict=True) for id_ in ids]
        times = Counter(id_ for _, id_ in found)
        models = [Model(id_, id_ if times[id_] == 1 else f"{id_} ({name})", self._clients[name]) for name, id_ in found]
        self._known |= {model.label: model for model in models}
        return models

    def known(self, label: str) -> Model | None:
        """A model that was listed once, whether its server answers now or not."""
        return self._known.get(label)

    @property
    def addresses(self) -> str:
        """For people."""
        return ", ".join(str(client.base_url) for client in self._clients.values())

    async def _ids(self, name: str) -> list[str]:
        try:
            listed = await self._clients[name].with_options(timeout=SECONDS_TO_LIST).models.list()
            return [model.id for model in listed.data]
        except openai.APIError:
            return []
