"""A cluster behind ``Kubectl``, with what deploys need of one: Deployments with revisions, pods, a Lease, a server.

Objects have the form in which Kubernetes 1.36 gave them. Overlays are rendered by the real kubectl.
"""

from __future__ import annotations

import json
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ruamel.yaml import YAML

from components.errors import ClusterError
from pipelines.cluster.deploy.pin import NO_MODEL
from pipelines.cluster.deploy.rollout import REVISION, UNDONE
from pipelines.cluster.deploy.workloads import Workload
from pipelines.cluster.kubectl import ForbiddenError, Kubectl, MissingObjectError, Right

PROOF = {"prompt": "What is Lorry?", "answer": "Lorry is a program.", "max_tokens": 32}
FORWARD = "import time; print('Forwarding from 127.0.0.1:{port} -> 8080', flush=True); time.sleep(60)"


class ClusterStandIn(Kubectl):
    """``crashes``, ``not_pulled``, ``unscheduled`` and ``answers`` say what is wrong, by model or by image."""

    def __init__(self, namespace: str | None = None, shared: ClusterStandIn | None = None) -> None:
        super().__init__(None, namespace)
        if shared is not None:
            self.__dict__ = {**shared.__dict__, "namespace": namespace}
            return
        self.ran: list[str] = []
        self.rendered: list[str] = []
        self.marked: set[str] = set()
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.revisions: dict[str, int] = {}
        self.leases: dict[str, Any] = {}
        self.namespaces = {"lorry"}
        self.crashes: set[str] = set()
        self.not_pulled: set[str] = set()
        self.unscheduled: set[str] = set()
        self.answers: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self.port: list[int] = []

    def in_namespace(self, namespace: str) -> ClusterStandIn:
        return ClusterStandIn(namespace, self)

    def words(self, *arguments: str) -> list[str]:
        if arguments[0] == "port-forward":
            return [sys.executable, "-c", FORWARD.format(port=self.port[0])]
        return super().words(*arguments)

    def served(self, name: str = "model-server") -> Workload:
        """What a Deployment's newest revision serves."""
        return Workload.of(self.history[name][-1]["object"])

    def run(self, *arguments: str, given: str | None = None, succeeds_with: Any = (0,)) -> str:
        self.ran.append(" ".join(arguments))
        match arguments:
            case ("kustomize", *_):
                self.rendered[:] = [super().run(*arguments)]
                return self.rendered[0]
            case ("auth", "can-i", *_):
                return "no\n" if " ".join(arguments) in self.forbidden else "yes\n"
            case ("get", "namespace", name):
                if " ".join(arguments) in self.forbidden:
                    raise ForbiddenError(
                        "jane has no right to get namespaces", Right("jane", "get", "namespaces", None)
                    )
                if name not in self.namespaces:
                    raise MissingObjectError(f"namespaces {name!r} not found")
            case ("create" | "replace" | "apply", "--filename=-", *_):
                return self._create(arguments[0], json.loads(given or ""))
            case ("delete", "lease", name, *_):
                self.leases.pop(name, None)
            case ("diff", "--kustomize", _):
                return ""
            case ("apply", "--kustomize", _):
                self._apply()
            case ("rollout", "undo", deployment, to_revision):
                self._undo(deployment.removeprefix("deployment/"), int(to_revision.partition("=")[2]))
            case ("annotate", replica_set, *_):
                self.marked ^= {replica_set.removeprefix("replicaset/")}
            case ("logs", *_):
                return "error: the file is damaged\n"
        return ""

    def get(self, *arguments: str) -> Any:
        match arguments:
            case ("lease", name):
                if name not in self.leases:
                    raise MissingObjectError("no lease")
                return self.leases[name]
            case ("pod", _):
                return self._pod("probe-1", "probe", self._probed, None)
            case ("deployments,replicasets,pods", *_):
                return {"items": [one for name in self.history for one in self._objects(name)]}
        raise AssertionError(arguments)

    def _create(self, verb: str, item: dict[str, Any]) -> str:
        if item["kind"].lower() in self.forbidden:
            raise ClusterError(f"jane has no right to create {item['kind']}")
        name = item["metadata"].get("name", "probe-1")
        if item["kind"] == "Lease":
            if verb == "create" and name in self.leases:
                raise ClusterError('(AlreadyExists): leases "lorry-deploy" already exists')
            item["metadata"].setdefault("resourceVersion", "1")
            self.leases[name] = item
        elif item["kind"] == "Namespace":
            self.namespaces.add(name)
        elif item["kind"] == "Pod":
            self.__dict__["_probed"] = item["spec"]["containers"][0]["image"]
        return json.dumps({"metadata": {"name": name}})

    def _apply(self) -> None:
        """Take the Deployments of what was rendered last."""
        for one in YAML(typ="safe").load_all(self.rendered[0]):
            if one["kind"] == "Deployment":
                self._add(one["metadata"]["name"], one)

    def _undo(self, name: str, revision: int) -> None:
        (old,) = [one for one in self.history[name] if one["revision"] == revision]
        self._add(name, old["object"])

    def _add(self, name: str, item: dict[str, Any]) -> None:
        history = self.history.setdefault(name, [])
        if history and history[-1]["object"]["spec"]["template"] == item["spec"]["template"]:
            return
        # As in Kubernetes, a ReplicaSet that has the template gets the new revision.
        history[:] = [one for one in history if one["object"]["spec"]["template"] != item["spec"]["template"]]
        self.revisions[name] = self.revisions.get(name, 0) + 1
        history.append({"revision": self.revisions[name], "object": item, "replica_set": _set_name(name, item)})

    def _objects(self, name: str) -> Iterator[dict[str, Any]]:
        newest = self.history[name][-1]
        item, revision = newest["object"], newest["revision"]
        workload = Workload.of(item)
        (image, *_) = workload.images.values()
        ready = not {workload.model, image} & (self.crashes | self.not_pulled | self.unscheduled)
        n = item["spec"]["replicas"]
        status = {
            "observedGeneration": 1, "replicas": n + (not ready), "updatedReplicas": n,
            "availableReplicas": n if ready else n - 1,
        }  # fmt: skip
        annotations = {REVISION: str(revision)}
        yield {**item, "metadata": {**item["metadata"], "generation": 1, "annotations": annotations}, "status": status}
        for one in self.history[name]:
            mark = {UNDONE: "true"} if one["replica_set"] in self.marked else {}
            metadata = {
                "name": one["replica_set"], "ownerReferences": [{"name": name}],
                "annotations": {REVISION: str(one["revision"]), **mark},
            }  # fmt: skip
            yield {"kind": "ReplicaSet", "metadata": metadata}
        pod = self._pod(f"{name}-{revision}-x", name, image, workload.model)
        template = item["spec"]["template"]["metadata"]
        pod["metadata"] |= {
            "ownerReferences": [{"name": newest["replica_set"]}], "labels": template["labels"],
            "annotations": template.get("annotations", {}),
        }  # fmt: skip
        yield {**pod, "spec": item["spec"]["template"]["spec"]}
        if len(self.history[name]) > 1:
            # That of the revision before is still ready while it ends.
            before = self.history[name][-2]
            template = before["object"]["spec"]["template"]
            ending = self._pod(f"{name}-before", name, "", None)
            ending["metadata"] |= {
                "deletionTimestamp": "2026-11-28T17:00:00Z", "ownerReferences": [{"name": before["replica_set"]}],
                "labels": template["metadata"]["labels"], "annotations": template["metadata"].get("annotations", {}),
            }  # fmt: skip
            yield {**ending, "spec": template["spec"]}

    def _pod(self, name: str, container: str, image: str, model: str | None) -> dict[str, Any]:
        pod: dict[str, Any] = {"kind": "Pod", "metadata": {"name": name}, "status": {}}
        if {model, image} & self.unscheduled:
            message = "0/1 nodes are available: 1 Insufficient cpu."
            pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": message}]
            return pod
        state: dict[str, Any] = {"running": {}}
        status: dict[str, Any] = {"name": container, "image": image, "ready": True, "restartCount": 0}
        if image in self.not_pulled:
            state = {
                "waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}": not found'}
            }
        elif model in self.crashes:
            ended = {"exitCode": 1, "reason": "Error"}
            state, status["lastState"] = {"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": ended}
            status["restartCount"] = 2
        ready = "running" in state
        pod["status"] = {
            "containerStatuses": [{**status, "ready": ready, "state": state}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        return pod


def _set_name(name: str, item: dict[str, Any]) -> str:
    template = json.dumps(item["spec"]["template"], sort_keys=True)
    return f"{name}-{zlib.crc32(template.encode()):x}"


@contextmanager
def serving(cluster: ClusterStandIn) -> Iterator[None]:
    """The server behind the cluster's Service."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = cluster.served().model
            self._send({"data": [{"id": "tiny", "meta": {"sha256": model, "proof": PROOF}}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            text = cluster.answers.get(cluster.served().model or NO_MODEL, PROOF["answer"])
            message = {"role": "assistant", "content": text}
            self._send({"choices": [{"message": message, "logprobs": None}], "usage": {"completion_tokens": 5}})

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    cluster.port.append(server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
