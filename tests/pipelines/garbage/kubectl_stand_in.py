"""A ``kubectl`` on PATH: answers from a file, and runs a Job's program on a folder in place of the claim's volume."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

SCRIPT = """#!{python}
import json, subprocess, sys
from pathlib import Path

STATE = Path({state!r})
state = json.loads(STATE.read_text())
words = [word for word in sys.argv[1:] if not word.startswith("--request-timeout")]
words = [w for i, w in enumerate(words) if w not in ("--context", "--namespace") and
         (i == 0 or words[i - 1] not in ("--context", "--namespace"))]
state["asked"].append(" ".join(words))
key = " ".join(word for word in words if not word.startswith("-"))
jobs = state["jobs"]


def save():
    STATE.write_text(json.dumps(state))


def end(text):
    save()
    sys.exit(text)


if key in state["answers"] or "-A " + key in state["answers"] and "--all-namespaces" in words:
    answer = state["answers"]["-A " + key if "--all-namespaces" in words and "-A " + key in state["answers"] else key]
    if isinstance(answer, str):
        end(answer)
    print(json.dumps(answer))
elif words[0] == "create":
    job = json.load(sys.stdin)
    name, (container,) = job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"]
    if name in jobs:
        end('Error from server (AlreadyExists): jobs.batch "' + name + '" already exists')
    path, folder = container["volumeMounts"][0]["mountPath"], state["volume"]
    command = [sys.executable, *container["command"][1:]]
    command[3] = command[3].replace(path, folder)
    done = subprocess.run(command, capture_output=True, text=True, cwd={root!r})
    log = (done.stderr + done.stdout).replace(folder, path)
    jobs[name] = dict(rc=done.returncode, log=log, manifest=job)
elif words[:2] == ["get", "job"]:
    ended = "Complete" if jobs[words[2]]["rc"] == 0 else "Failed"
    conditions = [] if state["pending"] else [dict(type=ended, status="True")]
    print(json.dumps(dict(status=dict(conditions=conditions))))
elif words[:2] == ["get", "pods"]:
    print(json.dumps(dict(items=state["pending"])))
elif words[0] == "logs":
    print(jobs[words[1].partition("/")[2]]["log"])
elif words[:2] == ["delete", "job"]:
    jobs.pop(words[2])
else:
    end('Error from server (NotFound): ' + key + ' not found')
save()
"""

CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"name": "checkpoints"}}
EMPTY: dict[str, Any] = {"items": []}
WORKLOADS = "get deployments.apps,replicasets.apps"
WORKFLOWS = "get workflows.argoproj.io"


@dataclass
class KubectlStandIn:
    """The state of the stand-in, in its file."""

    path: Path

    def answer(self, **changes: Any) -> None:
        """Change a part of the state."""
        self.path.write_text(json.dumps({**self.state, **changes}))

    def answers(self, key: str, answer: Any) -> None:
        """Answer a command: with a document, or with an error's text."""
        self.answer(answers={**self.state["answers"], key: answer})

    @property
    def state(self) -> dict[str, Any]:
        """Jobs that are there, commands that were asked."""
        return dict(json.loads(self.path.read_text()))


def install(folder: Path, volume: Path) -> KubectlStandIn:
    """Write the program ``kubectl`` into a folder."""
    folder.mkdir()
    state = folder / "state.json"
    answers = {"get persistentvolumeclaim checkpoints": CLAIM, WORKLOADS: EMPTY, WORKFLOWS: EMPTY}
    state.write_text(json.dumps({"asked": [], "jobs": {}, "volume": str(volume), "pending": [], "answers": answers}))
    script = folder / "kubectl"
    script.write_text(SCRIPT.format(python=sys.executable, state=str(state), root=str(ROOT)))
    script.chmod(0o755)
    return KubectlStandIn(state)


def workload(kind: str, name: str, sha256: str | None, namespace: str = "lorry") -> dict[str, Any]:
    """A Deployment or ReplicaSet as ``kubectl get`` gives it, as far as it is read."""
    template = {"metadata": {"annotations": {"lorry/model-sha256": sha256} if sha256 else None}}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": {"template": template}}
