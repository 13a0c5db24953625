"""One server: its list of models, its errors, and its key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.errors import HttpError
from components.chat.client.server import ListedModel, Server

Handler = Callable[[web.Request], Awaitable[web.Response]]


def models_of(handler: Handler, key: str = "none") -> list[ListedModel]:
    """The models that a server with that handler lists."""

    async def scenario() -> list[ListedModel]:
        app = web.Application()
        app.router.add_get("/v1/models", handler)
        async with TestServer(app) as running:
            server = Server(str(running.make_url("/v1/")), key)
            try:
                return await server.models()
            finally:
                await server.close()

    return asyncio.run(scenario())


def responding(response: Callable[[], web.Response]) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return response()

    return handle


@pytest.mark.parametrize(
    ("meta", "prompts", "generation"),
    [
        (None, (), {}),
        ("words", (), {}),
        ([1], (), {}),
        ({"n_ctx_train": 4096, "n_params": 7}, (), {}),
        ({"example_prompts": "What?", "default_generation_settings": [0.5]}, (), {}),
        ({"example_prompts": ["Good?", "", 5, None, ["x"], "x" * 201]}, ("Good?",), {}),
        ({"example_prompts": [f"{n}?" for n in range(50)]}, tuple(f"{n}?" for n in range(8)), {}),
        (
            {"default_generation_settings": {"temperature": "hot", "top_p": 0.9, "max_tokens": -1, "other": {}}},
            (),
            {"top_p": 0.9},
        ),
    ],
)
def test_whatever_is_not_valid_in_a_models_meta_is_left_out(meta, prompts, generation):
    listed = ListedModel.from_json({"id": "stub", "meta": meta})
    assert listed == ListedModel("stub", prompts, GenerationDefaults(**generation))


def test_models_are_listed_in_order_and_the_key_is_sent():
    keys = []

    async def handle(request: web.Request) -> web.Response:
        keys.append(request.headers["Authorization"])
        return web.json_response({"data": [{"id": "one"}, {"id": 2}]})

    assert [model.id for model in models_of(handle, "secret")] == ["one", "2"]
    assert keys == ["Bearer secret"]


@pytest.mark.parametrize("body", [[], {"data": 5}, {"data": [{"name": "x"}]}, {"data": ["x"]}, {}])
def test_a_body_that_is_no_list_of_models_is_an_error_with_the_address(body):
    with pytest.raises(ValueError, match=r"/v1/models is not a list of models"):
        models_of(responding(lambda: web.json_response(body)))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda: web.json_response({"error": {"message": "no such key"}}, status=401), "no such key"),
        (lambda: web.Response(text="<html>" + "x" * 300, status=401), "<html>" + "x" * 194),
        (lambda: web.json_response({"error": "flat"}, status=401), '{"error": "flat"}'),
        (lambda: web.Response(status=401), "401 Unauthorized"),
    ],
)
def test_an_error_has_the_servers_message_or_the_beginning_of_its_body(response, message):
    with pytest.raises(HttpError) as raised:
        models_of(responding(response))
    assert (raised.value.status, str(raised.value)) == (401, message)


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("", None)]
)
def test_retry_after_is_read_only_as_seconds(header, seconds):
    with pytest.raises(HttpError) as raised:
        models_of(responding(lambda: web.Response(status=503, headers={"Retry-After": header})))
    assert raised.value.retry_after == seconds


def test_a_server_that_is_gone_and_one_that_was_never_asked_can_be_closed():
    async def scenario() -> None:
        server = Server("http://127.0.0.1:9/v1", "none")
        with pytest.raises(aiohttp.ClientError):
            await server.models()
        await server.close()
        await Server("http://127.0.0.1:9/v1", "none").close()

    asyncio.run(scenario())
