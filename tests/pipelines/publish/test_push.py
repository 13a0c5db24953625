"""`lorry push`: the card, and what goes to a stand-in for the hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import ModelCard

from components.storage.digests import sha256_of
from tests.conftest import run_lorry

REPOSITORY = "somebody/tiny-chat"
TOKEN = "hf_written_by_the_test"


class Hub:
    """As much of the hub as a push asks for: every file is taken as a plain one."""

    def __init__(self) -> None:
        self.url = ""
        self.token = TOKEN
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.summary = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._answer(401, {"error": "Invalid credentials in Authorization header"})
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self.hub.made.append(json.loads(body))
            return self._answer(200, {"url": f"{self.hub.url}/{REPOSITORY}", "name": REPOSITORY, "id": "1"})
        if path == f"/api/models/{REPOSITORY}/preupload/main":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if path == f"/api/models/{REPOSITORY}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    self.hub.summary = line["value"]["summary"]
                else:
                    self.hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._answer(
                200, {"commitUrl": f"{self.hub.url}/{REPOSITORY}/commit/abc", "commitOid": "abc", "hookOutput": ""}
            )
        return self._answer(200, {"errors": [], "warnings": []})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def push(tiny_run, hub_url: str, *flags: str, token: str = TOKEN):
    return run_lorry(
        "push", REPOSITORY, "--run", tiny_run.run_folder, *flags,
        HF_ENDPOINT=hub_url, HF_HUB_OFFLINE="0", HF_TOKEN=token,
    )  # fmt: skip


def test_a_dry_run_shows_the_card_and_the_files_and_asks_nobody(tiny_run):
    done = push(tiny_run, "http://127.0.0.1:9", "--dry-run", token="")
    assert done.returncode == 0, done.stderr
    head, _, files = done.stdout.rpartition("adapter_config.json:")
    assert "model-Q8_0.gguf: " in files
    card = ModelCard(head)
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "peft"
    record = json.loads((tiny_run.run_folder / "run.json").read_text())
    for told in (
        "# tiny-chat",
        "data.jsonl: 18 training rows",
        f"{record['trainable_parameters']:,} of {record['total_parameters']:,}",
        f"| validation | {record['base_eval_loss']:.4f} | {record['final_eval_loss']:.4f} |",
        "| KL divergence from f16 | |",
        "| `lora_rank` | 4 |",
        sha256_of(tiny_run.model),
        "<|start_header_id|>",
    ):
        assert told in card.text
    assert "| `save_steps`" not in card.text
    assert "\n\n\n" not in card.text.strip()


def test_adapter_model_and_card_are_one_commit(tiny_run, hub):
    done = push(tiny_run, hub.url)
    assert done.returncode == 0, done.stderr
    assert f"pushed: {hub.url}/{REPOSITORY}" in done.stdout
    (made,) = hub.made
    assert (made["name"], made["organization"], made["visibility"]) == ("tiny-chat", "somebody", "private")
    assert hub.summary == f"Run {tiny_run.run_folder.name}"
    for path in (tiny_run.model, tiny_run.adapter / "adapter_model.safetensors"):
        assert hashlib.sha256(hub.files[path.name]).hexdigest() == sha256_of(path)
    expected = {"README.md", "adapter_config.json", "tokenizer.json", "model.json", "run.json", "history.jsonl"}
    assert expected <= set(hub.files)
    assert "made with Lorry" in hub.files["README.md"].decode()  # not the one that peft writes
    assert b"/tmp/" not in b"".join(content for name, content in hub.files.items() if name.endswith((".json", ".md")))
    assert TOKEN.encode() not in b"".join(hub.files.values())


def test_a_refused_token_is_said_in_words(tiny_run, hub):
    done = push(tiny_run, hub.url, token="hf_of_somebody_else")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {REPOSITORY}: ")
    assert "HF_TOKEN (401)" in line
    assert "token that may write there" in line
    assert hub.files == {}


def test_no_token_no_hub_no_name_and_no_run_are_said(tiny_run, hub, tmp_path):
    assert "HF_TOKEN is not set: make a token that may write" in push(tiny_run, hub.url, token="").stderr
    gone = push(tiny_run, "http://127.0.0.1:9")
    assert f"error: {REPOSITORY}: the hub does not answer (" in gone.stderr
    assert gone.stderr.count("\n") == 1
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    bad = run_lorry("push", "a b", "--run", tiny_run.run_folder, **there)
    assert "a b: not a repository's name (" in bad.stderr
    none = run_lorry("push", REPOSITORY, "--workdir", tmp_path)
    assert "no finished run; run a recipe first, or give --run" in none.stderr
    other = run_lorry("push", REPOSITORY, "--run", tmp_path)
    assert "no finished run" in other.stderr
    assert "outputs.jsonl" in other.stderr
