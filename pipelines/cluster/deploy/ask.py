"""Asking a model server of the cluster through its Service."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from components.errors import ClusterError
from pipelines.cluster.deploy.proof import N_ALTERNATIVES, Comparison, compare
from pipelines.cluster.kubectl import Kubectl

SECONDS_TO_FORWARD = 20
SECONDS_TO_ANSWER = 120
DEFAULT_PROMPT = "Hello"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")


@dataclass(frozen=True)
class Answer:
    """What a server says of its model, and how it answered."""

    name: str
    sha256: str | None
    comparison: Comparison
    tokens_per_second: float | None


class KeyRequiredError(ClusterError):
    """The server wants an API key that is not there."""


@contextmanager
def forwarded(kubectl: Kubectl, target: str, port: str) -> Iterator[str]:
    """An address of this machine that leads to ``target`` (``service/NAME`` or ``pod/NAME``).

    Raises:
        ClusterError: kubectl cannot forward, such as to a Service without a ready pod.
    """
    command = kubectl.words("port-forward", "--address=127.0.0.1", target, f":{port}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(SECONDS_TO_FORWARD, process.terminate)
        watchdog.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            found = _FORWARDING.match(process.stdout.readline())
            watchdog.cancel()
            if found is None:
                process.terminate()
                message = process.stderr.read() or "no answer"
                raise kubectl.error(kubectl.command("port-forward", target, port), message)
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            watchdog.cancel()
            process.terminate()


def ask_server(kubectl: Kubectl, target: str, port: str = "8080") -> Answer:
    """Ask a server for its model and for that model's proof answer.

    Raises:
        KeyRequiredError: it wants an API key that it does not accept or that is not there.
        ClusterError: it does not answer, or not as a model server does.
    """
    try:
        return _ask(kubectl, target, port)
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ClusterError(
            f"{target}: does not answer as a model server does ({type(error).__name__}: {error})"
        ) from error


def _ask(kubectl: Kubectl, target: str, port: str) -> Answer:
    with forwarded(kubectl, target, port) as address, _client(address) as http:
        http.headers.update(_authorization(kubectl, http))
        model = _json(http.get("/v1/models"), target)["data"][0]
        meta = model.get("meta") or {}
        proof = meta.get("proof")
        prompt, n_tokens = (proof["prompt"], proof["max_tokens"]) if proof else (DEFAULT_PROMPT, 16)
        began = time.monotonic()
        answer = _json(http.post("/v1/chat/completions", json=_question(model["id"], prompt, n_tokens)), target)
        seconds = time.monotonic() - began
    n_generated = (answer.get("usage") or {}).get("completion_tokens")
    return Answer(
        model["id"],
        meta.get("sha256"),
        compare(proof["answer"], answer["choices"][0])
        if proof
        else Comparison(None, "no proof answer in its manifest"),
        n_generated / seconds if n_generated else None,
    )


def _client(address: str) -> httpx.Client:
    # A proxy of the environment is not for an address of this machine.
    return httpx.Client(base_url=address, timeout=SECONDS_TO_ANSWER, trust_env=False)


def _question(model: str, prompt: str, n_tokens: int) -> dict[str, Any]:
    """A greedy answer, whatever defaults the model has."""
    return {
        "model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": n_tokens, "temperature": 0,
        "top_p": 1, "repetition_penalty": 1, "logprobs": True, "top_logprobs": N_ALTERNATIVES,
    }  # fmt: skip


def _authorization(kubectl: Kubectl, http: httpx.Client) -> dict[str, str]:
    """The header for a server that wants a key: the page's, else that of the environment."""
    if http.get("/v1/models").status_code != httpx.codes.UNAUTHORIZED:
        return {}
    key = _key_of_the_page(kubectl) or os.environ.get("OPENAI_API_KEY")
    if key is None:
        raise KeyRequiredError("it wants an API key; set OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"}


def _key_of_the_page(kubectl: Kubectl) -> str | None:
    from base64 import b64decode

    try:
        data = kubectl.get("secret", "lorry-chat").get("data") or {}
    except ClusterError:
        return None
    return b64decode(data["OPENAI_API_KEY"]).decode() if "OPENAI_API_KEY" in data else None


def _json(response: httpx.Response, target: str) -> Any:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise KeyRequiredError("it does not accept the API key; correct OPENAI_API_KEY")
    if response.is_error:
        raise ClusterError(
            f"{target}: {response.request.url.path} answers {response.status_code}: {response.text[:300]}"
        )
    return response.json()
