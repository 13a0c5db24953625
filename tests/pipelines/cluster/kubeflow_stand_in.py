"""An HTTP server that speaks as much of Kubeflow's v2beta1 API as `lorry submit` asks for.

What it takes and gives goes through the definitions of KFP's own generated client, so a field that the API does not
have, or of another type, is an error here as well.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import kfp_server_api

from tests.conftest import run_lorry

PREFIX = "/apis/v2beta1"
RUN_ID = "3f2f8c1e-0000-4000-8000-000000000001"
DROP = "drop"
# Where the recipes of these tests publish.
STORE = "s3://lorry/store"


class StandIn:
    """What the server knows, and how it is to misbehave.

    ``looks`` are the answers to the looks at the run, in order: details of tasks and a state, a recorded answer, a
    status, or ``DROP`` for a connection that closes in the middle of an answer. The last one stays.
    """

    def __init__(
        self, looks: Sequence[Any] = (), token: str | None = None, namespaces: Sequence[str] = (), login: str = ""
    ) -> None:
        self.looks = list(looks)
        self.token = token
        self.login = login
        self.namespaces = namespaces
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.terminated: list[str] = []
        self.retried: list[str] = []
        # What its list of runs has, newest first; without any, the run of this module.
        self.listed: list[dict[str, Any]] = []
        self.schedules: list[dict[str, Any]] = []
        self.changed: list[tuple[str, str]] = []
        self.not_found: dict[str, Any] = {}
        self.url = ""

    def look(self) -> Any:
        """The next answer."""
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


@contextmanager
def kubeflow(stand_in: StandIn, tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """Serve ``stand_in`` on a port of loopback until the context ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stand_in": stand_in}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    stand_in.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def task(name: str, state: str, **more: Any) -> kfp_server_api.V2beta1PipelineTaskDetail:
    """One task of a run."""
    return kfp_server_api.V2beta1PipelineTaskDetail(task_id=f"id-{name}", display_name=name, state=state, **more)


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    client = kfp_server_api.ApiClient()

    def do_GET(self) -> None:
        if not self._allowed():
            return
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == f"{PREFIX}/experiments":
            self._list_experiments(query)
        elif url.path == f"{PREFIX}/runs/{RUN_ID}":
            self._show_run()
        elif url.path == f"{PREFIX}/runs":
            self._list_runs(query)
        elif url.path == f"{PREFIX}/recurringruns":
            self._page("recurringRuns", self.stand_in.schedules, query)
        elif url.path == f"{PREFIX}/healthz":
            self._answer({"multi_user": False})
        else:
            self._refuse(404, f"no such thing: {self.path}")

    def do_POST(self) -> None:
        if not self._allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.path == f"{PREFIX}/experiments":
            given = self._typed(body, "V2beta1Experiment")
            self.stand_in.experiments.append({**body, "experiment_id": f"experiment-{given.display_name}"})
            self._answer(self.stand_in.experiments[-1])
        elif self.path == f"{PREFIX}/runs/{RUN_ID}:terminate":
            self.stand_in.terminated.append(RUN_ID)
            self._answer({})
        elif self.path == f"{PREFIX}/runs/{RUN_ID}:retry":
            self.stand_in.retried.append(RUN_ID)
            self._answer({})
        elif self.path == f"{PREFIX}/recurringruns":
            self._create_schedule(body)
        elif change := re.fullmatch(rf"{PREFIX}/recurringruns/([^:/]+):(enable|disable)", self.path):
            self._change_schedule(change[1], change[2])
        elif self.path == f"{PREFIX}/runs":
            self._typed(body, "V2beta1Run")
            self.stand_in.runs.append(body)
            self._answer({**body, "run_id": RUN_ID, "state": "PENDING"})
        else:
            self._refuse(404, f"no such thing: {self.path}")

    def do_DELETE(self) -> None:
        if self._allowed():
            url = urlparse(self.path)
            # Without it the runs of the schedule are deleted as well.
            assert parse_qs(url.query) == {"propagation_policy": ["ORPHAN"]}
            self._change_schedule(url.path.rpartition("/")[2], "delete")

    def _allowed(self) -> bool:
        """True for who may ask; others get a refusal, or what a proxy before Kubeflow gives: its login page."""
        if self.stand_in.login == "redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.stand_in.url}/login")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        if self.stand_in.login == "page":
            self._answer("<html>log in</html>")
            return False
        token = self.stand_in.token
        if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
            self._refuse(401, "Request header error: there is no user identity header")
            return False
        return True

    def _list_experiments(self, query: dict[str, str]) -> None:
        namespace = query.get("namespace")
        if self.stand_in.namespaces and namespace not in self.stand_in.namespaces:
            self._refuse(404, f"Namespace {namespace} not found")
            return
        predicate = self._predicate(query)
        found = [known for known in self.stand_in.experiments if known["display_name"] == predicate["stringValue"]]
        self._answer({"experiments": found})

    def _predicate(self, query: dict[str, str]) -> dict[str, str]:
        (predicate,) = json.loads(query["filter"])["predicates"]
        return dict(predicate)

    def _list_runs(self, query: dict[str, str]) -> None:
        assert query["sort_by"] == "created_at desc"
        runs = self.stand_in.listed or [{"run_id": RUN_ID, "display_name": "demo"}]
        runs = [self._own(run, "V2beta1Run") for run in runs]
        if "experiment_id" in query:
            runs = [run for run in runs if run.get("experiment_id") == query["experiment_id"]]
        if "filter" in query:
            predicate = self._predicate(query)
            assert (predicate["operation"], predicate["key"]) == ("IS_SUBSTRING", "run_id")
            runs = [run for run in runs if predicate["stringValue"] in run["run_id"]]
        self._page("runs", runs, query)

    def _own(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        self._typed(body, kind)
        return body

    def _page(self, field: str, entries: list[dict[str, Any]], query: dict[str, str]) -> None:
        """As Kubeflow: without entries an empty object."""
        start, size = int(query.get("page_token", 0)), int(query["page_size"])
        more = {"next_page_token": str(start + size)} if len(entries) > start + size else {}
        self._answer({field: entries[start : start + size], "total_size": len(entries), **more} if entries else {})

    def _create_schedule(self, body: dict[str, Any]) -> None:
        self._typed(body, "V2beta1RecurringRun")
        number = len(self.stand_in.schedules)
        made = {**body, "recurring_run_id": f"b193fa4b-0000-4000-8000-{number:012}", "status": "ENABLED"}
        self.stand_in.schedules.append(made)
        self._answer(made)

    def _change_schedule(self, schedule_id: str, change: str) -> None:
        self.stand_in.changed.append((schedule_id, change))
        for one in self.stand_in.schedules:
            if one["recurring_run_id"] == schedule_id:
                one["status"] = "DISABLED" if change == "disable" else "ENABLED"
        if change == "delete":
            self.stand_in.schedules = [one for one in self.stand_in.schedules if one["recurring_run_id"] != schedule_id]
        self._answer({})

    def _show_run(self) -> None:
        if self.stand_in.not_found:
            self._answer(self.stand_in.not_found, 404)
            return
        look = self.stand_in.look()
        if isinstance(look, dict):
            self._typed(look, "V2beta1Run")
            self._answer(look)
        elif look == DROP:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"run_id": ')
        elif isinstance(look, int):
            self._refuse(look, "the database is away")
        else:
            state, tasks = look
            details = kfp_server_api.V2beta1RunDetails(task_details=list(tasks))
            run = kfp_server_api.V2beta1Run(run_id=RUN_ID, state=state, run_details=details)
            self._answer(self.client.sanitize_for_serialization(run))

    def _typed(self, body: dict[str, Any], kind: str) -> Any:
        unknown = set(body) - set(getattr(kfp_server_api, kind).attribute_map.values())
        assert not unknown, f"{kind} has no {unknown}"
        return self.client._ApiClient__deserialize(body, kind)

    def _answer(self, body: Any, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, words: str) -> None:
        self._answer({"error": words, "code": 5, "message": words, "details": []}, status)

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' own output is enough."""


def submit(recipe: Path, server: StandIn, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``lorry submit`` of a recipe to a server."""
    folder = recipe.parent / "work"
    return run_lorry("submit", recipe, "--endpoint", server.url, "--workdir", folder, *flags, **environment)
