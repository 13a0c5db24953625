"""The API beyond plain chats: keys, bounds, ids and logs, text completions, JSON that follows a schema, draining."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from components.model_server.http.middleware import MAX_BODY_BYTES
from tests.conftest import answers, free_port, lorry_process

HELLO = [{"role": "user", "content": "Hello there"}]
KEYS = ["first-key-of-the-tests-000", "second-key-of-the-tests-00"]


@pytest.fixture(scope="module")
def locked(tiny_run, tmp_path_factory) -> Iterator[tuple[str, list[str]]]:
    """A server with API keys, and the lines that it logs until it ends."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("\n".join(KEYS))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    lines: list[str] = []
    flags = ["--api-keys-file", keys, "--model-id", "m", "--parallel", "2", "--port", str(port)]
    with lorry_process("serve", tiny_run.model, *flags, ready=f"{address}/readyz", lines=lines):
        yield address, lines


@pytest.fixture(scope="module")
def greedy(tiny_run, tmp_path_factory) -> Iterator[openai.OpenAI]:
    """A client of a model whose manifest has temperature 0, four tokens, and an example."""
    folder = Path(shutil.copytree(tiny_run.model.parent, tmp_path_factory.mktemp("greedy") / "model"))
    manifest = json.loads((folder / "model.json").read_text())
    manifest |= {"generation": {"temperature": 0, "max_tokens": 4}, "example_prompts": ["What is Lorry?"]}
    (folder / "model.json").write_text(json.dumps(manifest))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--model-id", "m", "--n-ctx", "256", "--parallel", "2", "--port", str(port)]
    with (
        lorry_process("serve", folder, *flags, ready=f"{address}/readyz"),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client) -> str:
    return client.models.list().data[0].id


def post(address: str, path: str = "/v1/chat/completions", *, key: str | None = KEYS[0], **body) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{address}{path}", json=body, headers=headers, timeout=60)


def test_requests_without_a_key_are_refused_and_probes_need_none(locked):
    address, _ = locked
    for key in (None, "wrong-key-wrong-key-wrong"):
        refused = post(address, key=key, model="m", messages=HELLO)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert "send one as 'Authorization: Bearer KEY'" in refused.json()["error"]["message"]
    assert httpx.get(f"{address}/v1/models").status_code == 401
    for probe in ("/livez", "/readyz", "/metrics"):
        assert httpx.get(f"{address}{probe}").status_code == 200
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEYS[1]) as client:
        assert client.models.list().data[0].id == "m"
    stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_line_of_log_has_the_id_and_the_counts_and_never_the_words(locked):
    address, lines = locked
    secret = "marmalade"
    answer = httpx.post(
        f"{address}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": f"Say {secret}"}], "max_tokens": 3},
        headers={"Authorization": f"Bearer {KEYS[1]}", "X-Request-Id": "my-request.1"},
        timeout=60,
    )
    assert answer.headers["X-Request-Id"] == "my-request.1"
    deadline = time.monotonic() + 10
    while not any("my-request.1" in line for line in lines) and time.monotonic() < deadline:
        time.sleep(0.05)
    (line,) = [line for line in lines if "my-request.1" in line]
    fields = json.loads(line)
    assert (fields["status"], fields["key"], fields["completion_tokens"]) == (200, "key-2", 3)
    assert fields["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert fields["finish_reason"] == "length"
    assert fields["seconds"] >= fields["ttft_seconds"]
    text = "".join(lines)
    assert secret not in text
    assert (
        answer.json()["choices"][0]["message"]["content"] not in text
        or not answer.json()["choices"][0]["message"]["content"]
    )
    assert not any(key in text for key in KEYS)


def test_a_body_that_is_too_long_is_refused_before_it_is_read(server, model):
    refused = httpx.post(f"{server}/v1/chat/completions", content=b" " * (MAX_BODY_BYTES + 1), timeout=60)
    assert refused.status_code == 413
    assert str(MAX_BODY_BYTES) in refused.json()["error"]["message"]


def test_a_body_without_a_length_is_bounded_too(server):
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    refused = httpx.post(
        f"{server}/v1/chat/completions", content=chunks(), headers={"Content-Type": "application/json"}, timeout=60
    )
    assert refused.status_code == 413


BAD = {
    "too many messages": ({"messages": HELLO * 1025}, "messages: List should have at most 1024 items"),
    "a stop string without end": ({"messages": HELLO, "stop": "x" * 300}, "stop"),
    "too many stop strings": ({"messages": HELLO, "stop": list("abcdefghijklmnopqrs")}, "stop"),
    "a bias for no token": (
        {"messages": HELLO, "logit_bias": {"99999999": 1}},
        "logit_bias: there is no token 99999999",
    ),
    "a bias out of range": ({"messages": HELLO, "logit_bias": {"1": 1000}}, "logit_bias.1: Input should be less"),
    "an engine parameter": (
        {"messages": HELLO, "n_threads": 64},
        "n_threads: this server has no such field; leave it out",
    ),
    "no tokens": ({"messages": HELLO, "max_tokens": 0}, "max_tokens: Input should be greater than 0"),
    "a schema that leads elsewhere": (
        {
            "messages": HELLO,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1/x"}},
            },
        },
        "the schema cannot be followed (Resource",
    ),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        "messages.0.content",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_out_of_bounds_is_a_400_that_names_the_field(server, model, name):
    body, message = BAD[name]
    refused = post(server, model=model, **body)
    assert refused.status_code == 400, refused.text
    assert message in refused.json()["error"]["message"]


def test_a_text_is_continued_whole_and_streamed(client, model):
    whole = client.completions.create(model=model, prompt="Lorry carries", temperature=0, max_tokens=8)
    assert whole.object == "text_completion"
    assert whole.usage.completion_tokens <= 8
    assert whole.choices[0].finish_reason in ("stop", "length")
    chunks = list(
        client.completions.create(model=model, prompt="Lorry carries", temperature=0, max_tokens=8, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    short = client.completions.create(model=model, prompt=["Lorry"], temperature=1.5, logit_bias={})
    assert short.usage.completion_tokens <= 16


def test_an_answer_that_was_begun_is_continued(client, model):
    begun = [*HELLO, {"role": "assistant", "content": "Lorry carries"}]
    asked = {"model": model, "messages": begun, "temperature": 0, "max_tokens": 6}
    behind = client.chat.completions.create(**asked, extra_body={"continue_final_message": True})
    anew = client.chat.completions.create(**asked)
    # The end of the turn, and the beginning of the next one.
    assert behind.usage.prompt_tokens < anew.usage.prompt_tokens
    asked_without = {**asked, "messages": HELLO}
    alone = client.chat.completions.create(**asked_without)
    assert behind.usage.prompt_tokens > alone.usage.prompt_tokens


def test_special_tokens_in_a_text_of_completions_are_only_text(client, model):
    plain = client.completions.create(model=model, prompt="<|eot_id|>", max_tokens=1)
    assert plain.usage.prompt_tokens > 3


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]{1,8}$"},
        "age": {"type": "integer"},
        "tags": {"enum": ["a", "b"]},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PERSON = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_follows_its_json_schema(client, model, temperature):
    for seed in range(4):
        answer = client.chat.completions.create(
            model=model, messages=HELLO, temperature=temperature, seed=seed, max_tokens=200,
            response_format=PERSON,
        )  # fmt: skip
        text = answer.choices[0].message.content
        if answer.choices[0].finish_reason == "stop":
            person = json.loads(text)
            assert set(person) == {"name", "age", "tags"}
            assert isinstance(person["age"], int)
            assert re.fullmatch("[a-z]{1,8}", person["name"])
            assert person["tags"] in ("a", "b")
        else:
            assert text.startswith("{")  # an integer of a model that was taught nothing may have no end


def test_an_answer_can_be_any_json_object(client, model):
    answer = client.chat.completions.create(
        model=model, messages=HELLO, temperature=0, max_tokens=24, response_format={"type": "json_object"}
    )
    assert answer.choices[0].message.content.lstrip().startswith("{")


def test_a_bias_forbids_a_token_and_penalties_change_the_answer(client, model):
    def ask(**settings) -> str:
        settings = {"temperature": 0, "max_tokens": 24, **settings}
        return client.chat.completions.create(model=model, messages=HELLO, **settings).choices[0].message.content

    plain = ask()
    assert ask(extra_body={"repetition_penalty": 1.0, "top_k": 40, "min_p": 0.05}) == plain
    assert ask(frequency_penalty=2, presence_penalty=2) != plain or len(set(plain.split())) == len(plain.split())
    forbidden = {str(token): -100 for token in range(300)}
    assert ask(logit_bias=forbidden) != plain


def test_the_same_seed_gives_the_same_answer(client, model):
    answers = {
        client.chat.completions.create(
            model=model, messages=HELLO, seed=11, temperature=1.2, top_p=0.9, max_tokens=16
        ).choices[0].message.content
        for _ in range(3)
    }  # fmt: skip
    assert len(answers) == 1


def test_a_setting_is_the_requests_or_else_the_manifests(greedy):
    def ask(**settings) -> str:
        answer = greedy.chat.completions.create(model="m", messages=HELLO, **settings)
        assert answer.usage.completion_tokens <= settings.get("max_tokens", 4)
        return answer.choices[0].message.content

    assert ask() == ask() == ask(temperature=0)
    assert len({ask(temperature=1.5, max_tokens=16) for _ in range(4)}) > 1
    text = greedy.completions.create(model="m", prompt="Lorry carries", logit_bias={"0": -100})
    assert text.usage.completion_tokens <= 16


def test_a_model_is_listed_with_its_figures_and_defaults(greedy, tiny_run):
    (listed,) = greedy.models.list().data
    assert listed == greedy.models.retrieve("m")
    assert (listed.id, listed.object, listed.owned_by) == ("m", "model", "lorry")
    meta = listed.model_extra["meta"]
    manifest = json.loads((tiny_run.model.parent / "model.json").read_text())
    assert (meta["n_ctx"], meta["n_ctx_train"]) == (256, manifest["context_length"])
    assert meta["n_params"] == manifest["n_parameters"]
    assert 0 < meta["size"] < manifest["size_bytes"]
    assert meta["default_generation_settings"] == {"temperature": 0.0, "max_tokens": 4}
    assert meta["example_prompts"] == ["What is Lorry?"]


def test_a_model_without_a_manifest_has_figures_and_no_defaults(tiny_run, tmp_path):
    path = Path(shutil.copy(tiny_run.model, tmp_path))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process("serve", path, "--port", str(port), ready=f"{address}/readyz"):
        (model,) = httpx.get(f"{address}/v1/models").json()["data"]
    assert model["meta"]["n_ctx"] == 512
    assert (model["meta"]["default_generation_settings"], model["meta"]["example_prompts"]) == ({}, [])


def test_metrics_count_what_has_happened(server):
    metrics = httpx.get(f"{server}/metrics").text
    for name in (
        "lorry_requests_waiting", "lorry_requests_running", "lorry_time_to_first_token_seconds_bucket",
        "lorry_inter_token_latency_seconds_bucket", "lorry_prompt_tokens_total", "lorry_completion_tokens_total",
        "lorry_prefix_hits_total", "lorry_requests_cancelled_total", "lorry_requests_rejected_total",
    ):  # fmt: skip
        assert re.search(rf"^{name}(\{{.*\}})? [0-9.e+]+$", metrics, re.MULTILINE), name


def test_draining_answers_probes_refuses_new_work_and_ends_with_exit_code_0(tiny_run: object):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    model: Path = tiny_run.model  # type: ignore[attr-defined]
    flags = ["--port", str(port), "--model-id", "m", "--drain-seconds", "3"]
    with lorry_process("serve", model, *flags, ready=f"{address}/readyz") as child:
        # No end-of-turn token: the answer runs into the drain's limit, or its context's.
        body = {"model": "m", "messages": HELLO, "stream": True, "temperature": 1.9, "seed": 5}
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            child.send_signal(signal.SIGTERM)
            while answers(f"{address}/readyz"):
                time.sleep(0.01)
            probes = []
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and child.poll() is None:
                try:
                    ready, live = (httpx.get(f"{address}{path}").status_code for path in ("/readyz", "/livez"))
                    refused = post(address, key=None, model="m", messages=HELLO)
                except httpx.TransportError:
                    break  # the answer was short: the server has left
                probes.append((ready, live, refused.status_code))
            rest = "\n".join(lines)
        assert (503, 200, 503) in probes or not probes
        assert re.search(r'"finish_reason": "(stop|length)"', rest)
        assert rest.rstrip().endswith("data: [DONE]")
        assert child.wait(20) == 0
