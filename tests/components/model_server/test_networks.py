"""The server over a network and for browsers: probes, slashes, other origins, invalid bodies, templates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.conftest import free_port, lorry_process

HELLO = [{"role": "user", "content": "Hello there"}]
BODY = {"model": "m", "messages": HELLO, "max_tokens": 3}
KEY = "a-key-of-the-tests-with-signs-:;=/+"
ORIGIN = "http://localhost:5173"


@pytest.fixture(scope="module")
def address(tiny_run, tmp_path_factory) -> Iterator[str]:
    """A server with API keys that pages of one origin may call."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"\ufeff# ours\n{KEY}\n", encoding="utf-8")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = [
        "--api-keys-file",
        keys,
        "--model-id",
        "m",
        "--parallel",
        "2",
        "--cors-origin",
        ORIGIN,
        "--port",
        str(port),
    ]
    with lorry_process("serve", tiny_run.model, *flags, ready=f"{address}/readyz"):
        yield address


def ask(address: str, method: str = "POST", path: str = "/v1/chat/completions", **options) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
    return httpx.request(method, f"{address}{path}", headers=headers, timeout=60, **options)


@pytest.mark.parametrize(
    "path", ["/health", "/v1/health", "/livez", "/readyz", "/metrics", "/v1/models", "/v1/models/m"]
)
def test_paths_with_get_have_head(address, path):
    head, whole = ask(address, "HEAD", path), ask(address, "GET", path)
    assert (head.status_code, head.content) == (200, b"")
    assert whole.status_code == 200
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]


def test_probes_need_no_key(address):
    for path in ("/health", "/v1/health", "/livez", "/readyz", "/health/"):
        assert httpx.get(f"{address}{path}").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1//chat/completions", "//v1/chat//completions//"])
def test_a_slash_too_many_changes_nothing(address, path):
    assert ask(address, path=path, json=BODY).json()["object"] == "chat.completion"
    assert ask(address, "GET", "/v1/models/").json()["object"] == "list"


def test_a_browsers_preflight_request_needs_no_key(address):
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    allowed = httpx.options(f"{address}/v1/chat/completions", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
    assert ask(address, json=BODY, headers={"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"] == ORIGIN
    refused = httpx.post(f"{address}/v1/chat/completions", json=BODY, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    stranger = httpx.options(f"{address}/v1/chat/completions", headers={**asked, "Origin": "http://elsewhere"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


JSON = {"Content-Type": "application/json"}
WHOLE = json.dumps(BODY).encode()
ODD = [
    (b'{"model": "m",', JSON, 400, "the body is no JSON: "),
    (b"", JSON, 400, "the body is empty; send a JSON object"),
    (b"[1]", JSON, 400, "the body is no JSON object; send one, such as"),
    (b'"x"', JSON, 400, "the body is no JSON object; send one, such as"),
    (b'{"model": "m", "messages": "\xff\xfe"}', JSON, 400, "the body cannot be read: it is no JSON in UTF-8"),
    (b"[" * 100_000, JSON, 400, "the body cannot be read: it is no JSON in UTF-8, or has too many levels or digits"),
    (WHOLE, {"Content-Type": ""}, 415, "Content-Type is missing; send the header 'Content-Type: application/json'"),
    (WHOLE, {"Content-Type": "text/plain"}, 415, "Content-Type is text/plain; send the header"),
    (
        WHOLE,
        {**JSON, "Content-Encoding": "gzip"},
        415,
        "Content-Encoding gzip is not supported; send the body as",
    ),
    (WHOLE.replace(b'"m"', b'"gpt-4"'), JSON, 404, "no model 'gpt-4' here; this server serves 'm'"),
]


@pytest.mark.parametrize(("content", "headers", "status", "words"), ODD, ids=lambda value: str(value)[:30])
def test_an_invalid_body_gets_an_error_that_explains_it(address, content, headers, status, words):
    refused = ask(address, content=content, headers=headers)
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["message"].startswith(words)


def test_errors_of_paths_models_and_lengths_name_what_is_valid(address):
    assert "use POST" in ask(address, "GET").json()["error"]["message"]
    missing = ask(address, path="/v1/embeddings", json={}).json()["error"]["message"]
    assert missing.startswith("there is nothing at '/v1/embeddings'; this server has /v1/chat/completions")
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match="maximum context length is") as too_long:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "word " * 2000}])
        assert too_long.value.code == "context_length_exceeded"


def test_what_a_client_has_sent_is_repeated_in_an_error_within_bounds_and_as_text(address):
    for body in ({**BODY, "model": "x" * 300_000}, {**BODY, "tool_choice": "\ud800" * 9}, {**BODY, "model": "\ud800"}):
        refused = ask(address, content=json.dumps(body), headers=JSON)
        assert 400 <= refused.status_code < 500
        assert len(refused.content) < 3_000


@pytest.fixture
def without_template(tiny_run, tmp_path) -> Path:
    path = tmp_path / "raw.gguf"
    path.write_bytes(tiny_run.model.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_templat_", 1))
    return path


def test_a_file_without_a_template_completes_texts_and_chats_with_a_named_one(without_template, tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--model-id", "m", "--parallel", "2", "--port", str(port)]
    lines: list[str] = []
    with lorry_process("serve", without_template, *flags, ready=f"{address}/readyz", lines=lines):
        text = httpx.post(f"{address}/v1/completions", json={"model": "m", "prompt": "Lorry"}, timeout=60)
        assert text.json()["object"] == "text_completion"
        refused = httpx.post(f"{address}/v1/chat/completions", json=BODY, timeout=60)
        assert refused.status_code == 400
        assert (
            "has no chat template; export it from a base model that has one, or name one with --chat-template"
            in refused.text
        )
    assert any("only /v1/completions works" in line and "--chat-template" in line for line in lines)
    template = tmp_path / "plain.jinja"
    template.write_text(
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
    )
    with lorry_process("serve", without_template, *flags, "--chat-template", template, ready=f"{address}/readyz"):
        assert httpx.post(f"{address}/v1/chat/completions", json=BODY, timeout=60).json()["object"] == "chat.completion"
