"""A ``kubectl`` on PATH that answers as the real one did on a real cluster (recorded.json), changed as a test wants.

Recorded on Kubernetes 1.36.2 with Kubeflow Pipelines 2.17.0, one node of two cores, a Node object with a GPU, and the
overlay ``local`` applied; what the doctor does not read is left out.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.doctor.examination import examine_cluster
from pipelines.cluster.doctor.row import Row
from pipelines.config.recipe import RECIPES, load_recipe
from tests.conftest import ROOT

LOCAL = ROOT / "manifests" / "overlays" / "local"
PODS = "get pods --all-namespaces --field-selector=status.phase!=Succeeded,status.phase!=Failed --output=json"
NODES = "get nodes --output=json"
CLASSES = "get storageclasses.storage.k8s.io --output=json"
_RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())

# The names of the answers' files are hashes of the words: without the time-out, and one space before each.
_SCRIPT = """#!/bin/sh
words=
for word in "$@"; do
  case "$word" in
    --request-timeout=*) ;;
    *) words="$words $word" ;;
  esac
done
file={folder}/$(printf %s "$words" | md5sum | cut -c1-32)
if [ -e "$file" ]; then cat "$file"; exit; fi
if [ -e "$file.error" ]; then cat "$file.error" >&2; exit 1; fi
case "$words" in
  " kustomize "*) exec {kubectl} "$@" ;;
  *" auth can-i "*) echo no; exit 1 ;;
esac
echo "Error from server (NotFound):$words not found" >&2
exit 1
"""


class RecordedCluster:
    """The recorded answers by the words of their commands."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = copy.deepcopy(
            {key: one["answer"] for key, one in _RECORDED.items() if "answer" in one}
        )
        self.errors: dict[str, str] = {}

    def items(self, command: str) -> list[dict[str, Any]]:
        """The list of an answer, to be changed."""
        found: list[dict[str, Any]] = self.answers[command]["items"]
        return found

    def named(self, command: str, name: str) -> dict[str, Any]:
        """One object of a list."""
        (found,) = [one for one in self.items(command) if one["metadata"]["name"] == name]
        return found

    def get(self, namespace: str, kind: str, name: str) -> dict[str, Any]:
        """The answer to a get of one object, to be changed."""
        where = f"--namespace {namespace} " if namespace else ""
        found: dict[str, Any] = self.answers[f"{where}get {kind} {name} --output=json"]
        return found

    def remove(self, namespace: str, kind: str, name: str) -> None:
        """Let an object be missing."""
        del self.answers[f"--namespace {namespace} get {kind} {name} --output=json" if namespace else
                         f"get {kind} {name} --output=json"]  # fmt: skip

    def refuse(self, command: str, verb: str, resource: str, scope: str = "at the cluster scope") -> None:
        """Refuse a command as Kubernetes does."""
        del self.answers[command]
        self.errors[command] = (
            f'Error from server (Forbidden): {resource} is forbidden: User "jane" cannot {verb} resource "{resource}" '
            f'in API group "" {scope}'
        )

    def install(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the stand-in first on PATH."""
        answers = folder / "answers"
        answers.mkdir()
        rendered = {f"kustomize {path}": _rendered(path) for path in (LOCAL, LOCAL / "pipelines")}
        for command, answer in {**rendered, **self.answers}.items():
            text = answer if isinstance(answer, str) else json.dumps(answer)
            (answers / _name(command)).write_text(text)
        for command, text in self.errors.items():
            (answers / f"{_name(command)}.error").write_text(text)
        script = folder / "bin" / "kubectl"
        script.parent.mkdir()
        script.write_text(_SCRIPT.format(kubectl=shutil.which("kubectl"), folder=answers))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent), prepend=":")
        monkeypatch.setenv("LORRY_TAG", "recorded")  # no image is hashed

    def rows(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        overlay: Path | None = LOCAL,
        pool: str = "t4",
        placement: dict[str, Any] | None = None,
    ) -> list[Row]:
        """What the doctor says of it, for the demo with its training on ``pool``."""
        self.install(folder, monkeypatch)
        recipe = load_recipe(RECIPES / "demo.yaml")
        if placement:
            recipe = recipe.model_copy(update={"placement": recipe.placement.model_copy(update=placement)})
        return examine_cluster(None, overlay, recipe, pool, None, (None, None), probe=False, report=print)


@cache
def _rendered(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True).stdout


def _name(command: str) -> str:
    return hashlib.md5(f" {command}".encode(), usedforsecurity=False).hexdigest()


def row_of(rows: list[Row], group: str, check: str) -> Row:
    """The one row of a check."""
    (found,) = [row for row in rows if (row.group, row.check) == (group, check)]
    return found
