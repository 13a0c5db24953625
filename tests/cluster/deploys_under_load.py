"""`lorry deploy` of good and bad models while clients chat: a program that prints its table.

    python -m tests.cluster.deploys_under_load OVERLAY --store s3://bucket/folder

OVERLAY is deployed, in the cluster of the current context, and the store's newest model has a proof answer. The bad
models are made from that one, in the same store. The addresses are those of the Services: run it on a node, or give
addresses that lead there. It changes what the namespace serves, and ends with another copy of the good model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from ruamel.yaml import YAML

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.storage.published_models import current, key_of, require_manifest
from components.storage.store import Store
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import load_overlay

NO_SUCH_MODEL = "ab" * 32
SERVER_IMAGE_MISSING = "server's image missing"
NO_SUCH_REGISTRY = "no-registry.invalid/lorry"


@dataclass
class Measured:
    """Requests since the last scenario: how many, which failed, the longest; and looks at the page."""

    n: int = 0
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0
    page_looks: int = 0
    page_down: list[str] = field(default_factory=list)


class Load:
    """Clients that chat through the Service, and one that looks at the page; all until ``stop``."""

    def __init__(self, server: str, page: str, n_clients: int) -> None:
        self._server, self._page = server, page
        self._model = httpx.get(f"{server}/v1/models").json()["data"][0]["id"]
        self._lock = threading.Lock()
        self._measured = Measured()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._chat, args=(n,)) for n in range(n_clients)]
        self._threads.append(threading.Thread(target=self._look))

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    @property
    def n(self) -> int:
        return self._measured.n

    def since_last(self) -> Measured:
        with self._lock:
            measured, self._measured = self._measured, Measured()
        return measured

    def _chat(self, number: int) -> None:
        # A connection for each request: one that is kept open stays with its pod until that ends.
        with httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) as http:
            while not self._stopped.is_set():
                began = time.monotonic()
                body = {
                    "model": self._model,
                    "messages": [{"role": "user", "content": f"Hello from {number}"}],
                    "max_tokens": 8,
                }
                try:
                    answer = http.post(f"{self._server}/v1/chat/completions", json=body)
                    problem = None if answer.status_code == 200 else f"{answer.status_code} {answer.text[:100]}"
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                with self._lock:
                    self._measured.n += 1
                    self._measured.longest = max(self._measured.longest, time.monotonic() - began)
                    self._measured.failed += [problem] if problem else []

    def _look(self) -> None:
        with httpx.Client(timeout=10) as http:
            while not self._stopped.wait(0.2):
                try:
                    status = http.get(self._page).status_code
                    problem = None if status == 200 else str(status)
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                with self._lock:
                    self._measured.page_looks += 1
                    self._measured.page_down += [problem] if problem else []


def make_models(address: str) -> dict[str, str]:
    """Copies of the newest model in its store, by what is wrong with each: their digests."""
    store = Store(address)
    manifest = require_manifest(store, current(store).sha256)
    assert manifest.proof is not None, "the newest model has no proof answer; export it with this version"
    content = store.read(key_of(manifest.sha256, manifest.file))
    # Bytes behind the last tensor's do not change the model.
    wrong = manifest.proof.model_copy(update={"answer": "Paris is the capital of France, and of nothing else."})
    return {
        "good": _put(store, manifest, content + b"\0" * 32),
        "good again": _put(store, manifest, content + b"\0" * 64),
        "crashes at load": _put(store, manifest, content[: len(content) // 2]),
        "wrong proof answer": _put(store, manifest.model_copy(update={"proof": wrong}), content + b"\0" * 96),
        "missing": NO_SUCH_MODEL,
    }


def _put(store: Store, manifest: ModelManifest, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    changed = manifest.model_copy(update={"sha256": sha256, "size_bytes": len(content)})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / manifest.file).write_bytes(content)
        store.put(key_of(sha256, manifest.file), Path(folder) / manifest.file)
    store.put_bytes(key_of(sha256, MANIFEST_NAME), changed.model_dump_json().encode())
    return sha256


def deploy(overlay: Path, *flags: str, registry: str | None) -> tuple[int, str, float]:
    """The exit status, the output and the seconds of `lorry deploy`."""
    command = [sys.executable, "-m", "pipelines.cli", "deploy", str(overlay), *flags]
    environment = {key: value for key, value in os.environ.items() if key != "LORRY_STORE"}
    environment |= {"LORRY_REGISTRY": registry} if registry else {}
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@contextmanager
def server_image_missing(overlay: Path) -> Iterator[None]:
    """An overlay of which the model server's image alone does not exist."""
    path = overlay / "kustomization.yaml"
    before = path.read_text()
    yaml = YAML()
    document = yaml.load(before)
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": f"{NO_SUCH_REGISTRY}/server:1"}
    ]
    document.setdefault("patches", []).append(
        {"target": {"kind": "Deployment", "name": "model-server"}, "patch": json.dumps(patch)}
    )
    with path.open("w") as file:
        yaml.dump(document, file)
    try:
        yield
    finally:
        path.write_text(before)


SCENARIOS = [
    # What is deployed, the key of its model, its images' registry, and whether it is good.
    ("a good model", "good", None, True),
    ("crashes at load", "crashes at load", None, False),
    ("wrong proof answer", "wrong proof answer", None, False),
    ("digest not in the store", "missing", None, False),
    (SERVER_IMAGE_MISSING, "good again", None, False),
    ("all images missing", "good again", NO_SUCH_REGISTRY, False),
    ("a good model", "good again", None, True),
]
HEAD = "| deploy of | exit | seconds | requests | failed | longest | page looks | page down | pinned | it says |"


def main() -> None:
    arguments = _arguments()
    models = make_models(arguments.store)
    server, page = _addresses(arguments.overlay)
    load = Load(arguments.server or server, arguments.page or page, arguments.clients)
    print(f"{HEAD}\n|{'---|' * 10}")
    with load.running():
        rows = [_run(load, arguments, name, models[key], registry, good) for name, key, registry, good in SCENARIOS]
    failed = sum(len(row.failed) for row in rows)
    down = sum(len(row.page_down) for row in rows)
    print(
        f"\n{sum(row.n for row in rows)} requests, {failed} failed, the longest "
        f"{max(row.longest for row in rows):.2f} s; "
        f"the page was down at {down} of {sum(row.page_looks for row in rows)} looks"
    )
    sys.exit(bool(failed or down))


def _run(
    load: Load, arguments: argparse.Namespace, name: str, model: str, registry: str | None, good: bool
) -> Measured:
    """Deploy one model, and go on chatting until it has its share of the requests; print its row."""
    overlay = arguments.overlay
    pinned = {path: path.read_bytes() for path in (overlay / "pinned").iterdir()}
    without_image = server_image_missing(overlay) if name == SERVER_IMAGE_MISSING else nullcontext()
    with without_image:
        status, output, seconds = deploy(
            overlay, "--model", model, "--timeout", str(arguments.timeout), registry=registry
        )
    while load.n < arguments.requests / len(SCENARIOS):
        time.sleep(0.2)
    kept = all(path.read_bytes() == content for path, content in pinned.items())
    measured = load.since_last()
    said = next((line for line in output.splitlines() if line.startswith(("error", "serves"))), "nothing")
    figures = [
        name, status, f"{seconds:.0f}", measured.n, len(measured.failed), f"{measured.longest:.2f} s",
        measured.page_looks, len(measured.page_down), "as before" if kept else "changed", said[:140],
    ]  # fmt: skip
    print(f"| {' | '.join(map(str, figures))} |", flush=True)
    with arguments.log.open("a") as log:
        log.write(f"== {name}\n{output}\n{measured.failed[:5]} {measured.page_down[:5]}\n")
    assert (status == 0) == good, output
    assert kept != good, "pinned/ is as before after a failed deploy, and after no other"
    return measured


def _addresses(overlay: Path) -> tuple[str, str]:
    kubectl = Kubectl()
    here = kubectl.in_namespace(load_overlay(kubectl, overlay).namespace)
    server, page = (here.get("service", name)["spec"]["clusterIP"] for name in ("model-server", "chat"))
    return f"http://{server}:8080", f"http://{page}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overlay", type=Path)
    parser.add_argument("--store", required=True)
    parser.add_argument("--server", help="default: the address of the Service model-server")
    parser.add_argument("--page", help="default: the address of the Service chat")
    parser.add_argument("--requests", type=int, default=10_000, help="in all; more where the deploys take longer")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--timeout", type=int, default=120, help="of each deploy; seconds")
    parser.add_argument("--log", type=Path, default=Path("deploys_under_load.log"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
