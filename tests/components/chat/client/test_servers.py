"""Several servers: their names, the models that they serve, and those that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.errors import HttpError
from components.chat.client.server import ListedModel, Server
from components.chat.client.servers import Servers
from components.errors import DataError

Listing = dict[str, Sequence[str] | Exception]


@pytest.fixture
def listing(monkeypatch) -> Listing:
    """The models that each server lists, by its address, or the error instead; no request is sent."""
    listing: Listing = {}

    async def models(server: Server) -> list[ListedModel]:
        listed = listing.get(server.url, TimeoutError())
        if isinstance(listed, Exception):
            raise listed
        return [ListedModel(model) for model in listed]

    monkeypatch.setattr(Server, "models", models)
    return listing


def labels(servers: Servers) -> list[str]:
    return [model.label for model in asyncio.run(servers.models())]


@pytest.mark.parametrize(
    ("addresses", "message"),
    [(["model-server:8080"], "'model-server:8080' is not the address of a server; give one as http://HOST:PORT/v1"),
     (["a=ftp://x"], "is not the address"),
     (["a=http://x/v1", "a=http://y/v1"], "two servers are called 'a'.*NAME=ADDRESS"),
     (["http://x/v1", "http://x/v1/"], "two servers are called 'http://x/v1'")],
)  # fmt: skip
def test_an_address_that_is_not_valid_or_given_twice_is_refused(addresses, message):
    with pytest.raises(DataError, match=message):
        Servers(addresses, "none")


def test_an_address_with_an_equals_sign_in_its_query_needs_no_name(listing):
    listing["http://x/v1?key=value"] = ["base"]
    assert labels(Servers(["http://x/v1?key=value"], "none")) == ["base"]


def test_models_of_several_servers_have_different_labels(listing):
    listing |= {"http://a/v1": ["base"], "http://b/v1": ["base"], "http://c/v1": ["tuned"]}
    servers = Servers(["a=http://a/v1", "b=http://b/v1", "http://c/v1", "d=http://d/v1"], "none")
    assert labels(servers) == ["base (a)", "base (b)", "tuned"]
    assert servers.missing == "Not reachable now: d. Load the page again later."
    alone = Servers(["a=http://a/v1", "d=http://d/v1"], "none")
    assert labels(alone) == ["base (a)"], "a vote for the bare id would count for another model"


def test_a_model_stays_known_when_its_server_is_gone(listing):
    servers = Servers(["http://a/v1", "http://b/v1"], "none")
    listing |= {"http://a/v1": ["one"], "http://b/v1": ["two"]}
    assert labels(servers) == ["one", "two"]
    listing["http://b/v1"] = TimeoutError()
    assert labels(servers) == ["one"]
    assert servers.known("two") is not None
    assert servers.known("other") is None
    assert [model.label for model in servers.all_known] == ["one", "two"]
    assert [model.label for model in servers.listed] == ["one"]


def test_a_replacement_is_of_the_same_server_if_possible(listing):
    async def replaced(servers: Servers, label: str) -> str | None:
        model = servers.known(label)
        assert model is not None
        other = await servers.replacement_for(model)
        return None if other is None else other.label

    servers = Servers(["http://a/v1", "http://b/v1"], "none")
    listing |= {"http://a/v1": ["one"], "http://b/v1": ["two"]}
    labels(servers)
    assert asyncio.run(replaced(servers, "two")) is None, "it is still listed"
    listing["http://b/v1"] = ["renamed"]
    assert asyncio.run(replaced(servers, "two")) == "renamed"
    listing["http://b/v1"] = TimeoutError()
    assert asyncio.run(replaced(servers, "two")) == "one"
    listing.clear()
    assert asyncio.run(replaced(servers, "two")) is None, "no other one is listed"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HttpError(401, "no valid key", "", None), "wants a key: set OPENAI_API_KEY (no valid key). Press Retry"),
        (HttpError(403, "no valid key", "", None), "wants a key: set OPENAI_API_KEY (no valid key). Press Retry"),
        (HttpError(404, "not found", "", None), "lists no models: such an address usually ends with /v1 (not found)"),
        (HttpError(500, "crash", "", None), "No model server answers at http://a/v1. Is it running? Press Retry"),
        (ValueError("no list"), "No model server answers at http://a/v1"),
    ],
)
def test_why_nothing_is_served_is_shown_until_the_server_answers(listing, error, message):
    servers = Servers(["http://a/v1"], "none")
    listing["http://a/v1"] = error
    assert labels(servers) == []
    assert message in servers.nothing_served
    listing["http://a/v1"] = ["base"]
    assert labels(servers) == ["base"]
    assert servers.missing == ""
    assert "wants a key" not in servers.nothing_served


def test_the_recipes_example_prompts_reach_the_page(server):
    async def ask() -> list[tuple[str, tuple[str, ...], GenerationDefaults]]:
        servers = Servers([f"{server}/v1"], "none")
        try:
            return [(model.label, model.example_prompts, model.generation) for model in await servers.models()]
        finally:
            await servers.close()

    assert asyncio.run(ask()) == [("tiny", ("What is Lorry?",), GenerationDefaults())]
