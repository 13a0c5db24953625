"""A server asked through a port that kubectl forwards; the server is a small one of the test's own."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from components.errors import ClusterError
from pipelines.cluster.deploy.ask import DEFAULT_PROMPT, KeyRequiredError, ask_server
from pipelines.cluster.kubectl import Kubectl, MissingObjectError

PROOF = {"prompt": "2 + 2?", "answer": "4", "max_tokens": 5}
FORWARD = "import time; print('Forwarding from 127.0.0.1:{port} -> 8080', flush=True); time.sleep(60)"
REFUSAL = "import sys; sys.exit('error: unable to forward port because pod is not running')"


class Server(BaseHTTPRequestHandler):
    key: ClassVar[str | None] = None
    meta: ClassVar[dict[str, Any]] = {}
    page: ClassVar[bytes | None] = None
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "tiny", "meta": self.meta}]})

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer({"choices": [{"message": {"content": "4"}}], "usage": {"completion_tokens": 1}})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, document: object) -> None:
        allowed = self.key is None or self.headers.get("Authorization") == f"Bearer {self.key}"
        body = (self.page or json.dumps(document).encode()) if allowed else b"{}"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Forwarding(Kubectl):
    """kubectl with a port-forward that leads to the test's server; ``secret`` is the page's."""

    def __init__(self, script: str, secret: dict[str, str] | None = None) -> None:
        super().__init__(None, "lorry")
        self._script, self._secret = script, secret

    def words(self, *arguments: str) -> list[str]:
        assert arguments[:2] == ("port-forward", "--address=127.0.0.1")
        return [sys.executable, "-c", self._script]

    def command(self, *arguments: str) -> str:
        return " ".join(("kubectl", *arguments))

    def get(self, *arguments: str) -> Any:
        if self._secret is None:
            raise MissingObjectError("no secret")
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in self._secret.items()}}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name, value in {"key": None, "meta": {"sha256": "a" * 64, "proof": PROOF}, "page": None, "asked": []}.items():
        monkeypatch.setattr(Server, name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_proof_prompt_is_asked_greedily_and_its_answer_compared(port):
    answer = ask_server(Forwarding(FORWARD.format(port=port)), "service/model-server")
    assert (answer.name, answer.sha256, answer.comparison.agrees) == ("tiny", "a" * 64, True)
    (asked,) = Server.asked
    assert asked["messages"] == [{"role": "user", "content": "2 + 2?"}]
    assert (asked["max_tokens"], asked["temperature"], asked["top_logprobs"]) == (5, 0, 5)


def test_a_manifest_without_a_proof_leaves_nothing_to_compare(port, monkeypatch):
    monkeypatch.setattr(Server, "meta", {})
    answer = ask_server(Forwarding(FORWARD.format(port=port)), "service/model-server")
    assert (answer.comparison.agrees, answer.sha256) == (None, None)
    assert Server.asked[0]["messages"][0]["content"] == DEFAULT_PROMPT


def test_a_key_is_that_of_the_environment_or_of_the_page(port, monkeypatch):
    monkeypatch.setattr(Server, "key", "secret-1")
    script = FORWARD.format(port=port)
    with pytest.raises(KeyRequiredError, match="it wants an API key; set OPENAI_API_KEY"):
        ask_server(Forwarding(script), "service/model-server")
    assert ask_server(Forwarding(script, {"OPENAI_API_KEY": "secret-1"}), "service/model-server").name == "tiny"
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-server")
    assert ask_server(Forwarding(script, {"OPENAI_API_KEY": "secret-1"}), "service/model-server").name == "tiny"
    with pytest.raises(KeyRequiredError, match="it does not accept the API key; correct OPENAI_API_KEY"):
        ask_server(Forwarding(script), "service/model-server")


def test_a_service_without_pods_and_a_foreign_server_are_one_line(port, monkeypatch):
    with pytest.raises(
        ClusterError, match="kubectl port-forward service/x 8080: error: unable to forward port because"
    ):
        ask_server(Forwarding(REFUSAL), "service/x")
    monkeypatch.setattr(Server, "page", b"<html>login</html>")
    with pytest.raises(ClusterError, match=r"^service/x: does not answer as a model server does \(JSONDecodeError"):
        ask_server(Forwarding(FORWARD.format(port=port)), "service/x")
