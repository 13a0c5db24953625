"""Every error has OpenAI's shape and the status that a client acts on."""

from __future__ import annotations

import json

import pytest

from components.errors import LorryError, ModelError, RequestError
from components.model_server.engine.interface import (
    Delta,
    PromptTooLongError,
    QueueFullError,
    TimedOutError,
    UnavailableError,
)
from components.model_server.engine.metrics import Metrics
from components.model_server.http.errors import LONGEST_MESSAGE, client_message, error_response, public_paths
from tests.components.model_server.http.application import (
    BODY,
    END,
    ScriptedEngine,
    application,
    call,
    message_of,
)

INVALID, SERVER = "invalid_request_error", "server_error"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param", "retry_after"),
    [
        (LorryError("the prompt is empty; send some text"), 400, INVALID, None, None, None),
        (ModelError("it breaks"), 400, INVALID, None, None, None),
        (RequestError("logit_bias", "there is no token 9"), 400, INVALID, None, "logit_bias", None),
        (RequestError("tools: parameters of f", "too deep"), 400, INVALID, None, "tools", None),
        (PromptTooLongError("too long", "messages"), 400, INVALID, "context_length_exceeded", "messages", None),
        (QueueFullError("64 wait", 7), 429, "rate_limit_error", "queue_full", None, "7"),
        (UnavailableError("the server is stopping"), 503, SERVER, None, None, "5"),
        (TimedOutError("the time is over"), 503, SERVER, None, None, "5"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_the_engine_has_its_status(error, status, kind, code, param, retry_after):
    response = call(application(ScriptedEngine(error)), json=BODY)
    assert response.status_code == status
    assert response.headers.get("Retry-After") == retry_after
    assert response.json() == {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [KeyError("secret"), ZeroDivisionError()], ids=repr)
def test_an_unexpected_error_has_its_kind_and_nothing_of_other_requests(error, begun, stream):
    engine = ScriptedEngine(*([Delta("Hi")] if begun else []), error)
    response = call(application(engine), json={**BODY, "stream": stream})
    assert "secret" not in response.text
    assert f"the server failed ({type(error).__name__}); its log says more" in response.text
    assert response.headers["X-Request-Id"]
    assert response.status_code == (200 if begun and stream else 500)
    assert response.text.endswith("data: [DONE]\n\n") == (begun and stream)
    assert engine.n_closed == 1


def test_only_a_lorry_errors_text_is_for_clients():
    assert client_message(LorryError("ask again")) == "ask again"
    assert client_message(ValueError("of another user")) == "the server failed (ValueError); its log says more"


def test_a_long_message_is_cut_and_half_a_character_is_escaped():
    assert len(error_response(400, "x" * 9 * LONGEST_MESSAGE, INVALID).body) < LONGEST_MESSAGE + 200
    assert b"\\\\ud800" in error_response(400, "\ud800", INVALID).body


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/v1/embeddings", ["'/v1/embeddings'", "/v1/chat/completions", "/v1/completions", "/v1/models", "/readyz"]),
        ("/" + "x" * 9000, ["'/xxx"]),
    ],
)
def test_a_path_that_does_not_exist_is_a_404_with_those_that_do(path, facts):
    response = call(application(ScriptedEngine()), path=path, json={})
    assert (response.status_code, len(response.content) < 1000) == (404, True)
    for fact in facts:
        assert fact in message_of(response)


def test_the_paths_are_those_of_the_apis_schema():
    app = application(ScriptedEngine())
    assert set(public_paths(app.routes)) == {path.replace(":path", "") for path in app.openapi()["paths"]}


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/completions", "POST"), ("DELETE", "/v1/models", "GET")]
)
def test_another_method_is_a_405_with_the_right_one(method, path, allowed):
    response = call(application(ScriptedEngine()), method, path)
    assert response.status_code == 405
    assert allowed in response.headers["Allow"]
    for fact in (repr(path), method, allowed):
        assert fact in message_of(response)


def test_another_model_is_a_404_with_the_served_one():
    app = application(ScriptedEngine())
    for response in (call(app, json={**BODY, "model": "gpt-9"}), call(app, "GET", "/v1/models/gpt-9")):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "'gpt-9'" in error["message"]
        assert "'m'" in error["message"]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b'{"model": "m",', ["no JSON", "character 14", "correct it"]),
        (b"", ["empty", "send a JSON object"]),
        (b"[1]", ["no JSON object", "'messages'"]),
        (b'"x"', ["no JSON object"]),
        (b"[" * 100_000, ["too many levels", "send plain JSON"]),
        (b'{"model": "m", "messages": "\xff\xfe"}', ["no JSON in UTF-8"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_is_no_json_object_is_a_400(content, facts):
    response = call(application(ScriptedEngine(END)), content=content, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, INVALID, None)
    for fact in facts:
        assert fact in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "facts"),
    [
        ({"messages": None}, "messages", ["Field required"]),
        ({"messages": []}, "messages", ["should have at least 1 item"]),
        ({"messages": [{"role": "user"}]}, "messages.0", ["a user message has no content"]),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", ["an unpaired surrogate"]),
        ({"mirostat": 2}, "mirostat", ["has no such field; leave it out"]),
        ({"n": 2}, "n", ["a request has one answer"]),
        ({"top_logprobs": 2}, "top_logprobs", ["goes only with logprobs true"]),
        ({"n_predict": 2}, "n_predict", ["is not supported; use max_tokens"]),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", ["response_format", "--chat-template"]),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 20_000]}}}},
         "response_format", ["20", "bytes", "shorten it"]),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_an_invalid_field_is_a_400_that_names_it(fields, param, facts):
    metrics = Metrics()
    content = json.dumps({**BODY, **fields}).encode()
    response = call(application(ScriptedEngine(END), metrics=metrics), content=content, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, INVALID, param)
    assert error["message"].startswith(f"{param}: ")
    for fact in facts:
        assert fact in error["message"]
    assert metrics.registry.get_sample_value("lorry_requests_rejected_total", {"reason": "invalid"}) == 1
