"""The model server over HTTP, as clients and probes see it."""

from __future__ import annotations

import signal
import threading
import time

import httpx
import openai
import pytest

from tests.conftest import free_port, lorry_process, run_lorry

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client) -> str:
    return client.models.list().data[0].id


def post(server: str, **body):
    return httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60)


def test_the_openai_client_lists_models_chats_and_streams(client, model):
    assert model == "tiny"  # as its recipe is called
    assert client.models.retrieve(model).id == model
    answer = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=12)
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=HELLO,
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == answer.choices[0].finish_reason
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens < answer.usage.prompt_tokens
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1


def test_temperature_0_gives_the_same_answer_again_and_a_seed_does_too(client, model):
    def ask(**settings):
        answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=16, **settings)
        return answer.choices[0].message.content

    assert ask(temperature=0) == ask(temperature=0)
    assert ask(temperature=1.5, seed=7) == ask(temperature=1.5, seed=7)
    assert len({ask(temperature=2, seed=seed) for seed in range(4)}) > 1


def test_a_stop_string_ends_the_answer_before_it(client, model):
    whole = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=24)
    text = whole.choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    cut = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=24, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_content_parts_and_the_developer_role_are_understood(server, model):
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    assert post(server, model=model, messages=messages, max_tokens=2).status_code == 200


def test_probes_answer_while_a_stream_runs_and_a_second_client_is_answered_beside_it(server, client, model):
    first = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=200, stream=True)
    next(first)
    second: list[openai.types.chat.ChatCompletion] = []
    waiting = threading.Thread(
        target=lambda: second.append(client.chat.completions.create(model=model, messages=HELLO, max_tokens=3))
    )
    waiting.start()
    assert httpx.get(f"{server}/livez").json() == {"status": "ok"}
    assert httpx.get(f"{server}/readyz").status_code == 200
    assert client.models.list().data[0].id == model
    chunks = [chunk for chunk in first if chunk.choices]
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    waiting.join(timeout=60)
    assert second[0].choices[0].finish_reason in ("stop", "length")


def test_a_seed_of_one_request_does_not_reach_the_next(client, model):
    def ask(**settings):
        answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=16, temperature=2, **settings)
        return answer.choices[0].message.content

    seeded = ask(seed=7)
    assert any(ask() != seeded for _ in range(4))


def test_a_client_that_disconnects_frees_its_slot(server, client, model):
    with httpx.stream(
        "POST", f"{server}/v1/chat/completions",
        json={"model": model, "messages": HELLO, "stream": True, "temperature": 1.9, "seed": 3}, timeout=60,
    ) as response:  # fmt: skip
        next(response.iter_lines())
    assert client.chat.completions.create(model=model, messages=HELLO, max_tokens=2).choices[0].finish_reason


@pytest.mark.parametrize("former", ["model-Q8_0", "tiny-Q8_0"])
def test_the_models_former_names_are_accepted(client, model, former):
    answer = client.chat.completions.create(model=former, messages=HELLO, temperature=0, max_tokens=2)
    assert (answer.model, client.models.retrieve(former).id) == (model, model)


def test_the_metrics_have_the_models_name(server, model):
    assert f'lorry_model_info{{model_name="{model}"}} 1.0' in httpx.get(f"{server}/metrics").text


BAD_REQUESTS = {
    "no messages": ({"messages": []}, 400, "messages: List should have at least 1 item"),
    "an unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role: Input should be"),
    "an unknown field": (
        {"messages": HELLO, "mirostat": 2},
        400,
        "mirostat: this server has no such field; leave it out",
    ),
    "a temperature out of range": ({"messages": HELLO, "temperature": 3}, 400, "temperature: Input should be less"),
    "two answers": ({"messages": HELLO, "n": 2}, 400, "n: a request has one answer here; send several requests"),
    "another model": (
        {"model": "gpt-9", "messages": HELLO},
        404,
        "no model 'gpt-9' here; this server serves 'tiny'",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_in_openais_shape(server, model, name):
    body, status, message = BAD_REQUESTS[name]
    response = post(server, **{"model": model, **body})
    assert response.status_code == status
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_body_that_is_not_json_is_refused(server):
    response = httpx.post(
        f"{server}/v1/chat/completions", content=b"{nope", headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert "error" in response.json()


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_is_a_400_with_both_numbers(server, model, stream):
    response = post(server, model=model, messages=[{"role": "user", "content": "word " * 2000}], stream=stream)
    assert response.status_code == 400
    assert "maximum context length is 512 tokens, and the prompt has" in response.json()["error"]["message"]
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_sigterm_ends_a_running_stream_with_a_finish_reason(tiny_run):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process(
        "serve", tiny_run.model, "--port", str(port), "--model-id", "m", ready=f"{address}/readyz"
    ) as child:
        body = {"model": "m", "messages": HELLO, "stream": True, "temperature": 0}
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            child.send_signal(signal.SIGTERM)
            rest = "\n".join(lines)
        assert '"finish_reason": "length"' in rest or '"finish_reason": "stop"' in rest
        assert rest.rstrip().endswith("data: [DONE]")
        deadline = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert child.poll() is not None


def test_a_port_in_use_is_one_line_and_names_the_flag(tiny_run, server):
    port = server.rsplit(":", 1)[1]
    done = run_lorry("serve", tiny_run.model, "--port", port)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: cannot listen on 127.0.0.1:{port} (Address already in use); choose another port with --port"
    )


def test_a_truncated_model_is_one_line_and_exit_code_1(tiny_run, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_run.model.read_bytes()[:-2000])
    done = run_lorry("serve", path, "--port", str(free_port()))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}: truncated")
    assert done.stderr.count("\n") == 1


def test_the_model_of_the_last_run_is_served_without_being_named(tiny_run):
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    with lorry_process("serve", "--workdir", tiny_run.workdir, "--port", port, ready=f"{address}/readyz"):
        assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == "tiny"
