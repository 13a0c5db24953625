"""Ten faults, one at a time, in namespaces of its own: `lorry doctor` names each, and the printed command corrects it.

Run by hand against the cluster that KUBECONFIG names, where Kubeflow Pipelines and the images (LORRY_REGISTRY) are:

    python -m tests.cluster.doctor_faults

It takes away the annotation of the default storage class for some seconds, and adds a Node object that no machine is
behind, with a GPU's taint; both are put right at the end, and the namespaces are deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.cluster.doctor.storage import IS_DEFAULT
from tests.conftest import ROOT

SERVING, RUNS, NODE, USER = "lorry-doctor-faults", "lorry-doctor-faults-runs", "lorry-doctor-gpu", "visitor"
T4 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
Row = dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What is broken, the row that must say so, and what the doctor needs to see it."""

    name: str
    make: Callable[[Path], None]
    group: str
    check: str
    options: tuple[str, ...] = ()


def kubectl(*words: str, given: Any = None) -> str:
    text = None if given is None else json.dumps(given)
    return subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=True).stdout


def doctor(overlay: Path, *options: str, kubeconfig: str | None = None) -> list[Row]:
    """The rows, as ``--json`` gives them."""
    command = [sys.executable, "-m", "pipelines.cli", "doctor", "--overlay", str(overlay), "--json"]
    recipe = ["--recipe", str(ROOT / "pipelines" / "recipes" / "demo.yaml")]
    environment = {**os.environ, **({"KUBECONFIG": kubeconfig} if kubeconfig else {})}
    done = subprocess.run([*command, *recipe, *options], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout, done.stderr
    rows: list[Row] = json.loads(done.stdout)
    assert done.returncode == any(row["state"] == "missing" for row in rows), done.stderr
    return rows


def correct(row: Row) -> None:
    """Run a row's command as it is printed."""
    done = subprocess.run(["bash", "-c", row["fix"]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"{row['fix']}\n{done.stdout}{done.stderr}"


def row_of(rows: list[Row], group: str, check: str) -> Row:
    (found,) = [row for row in rows if (row["group"], row["check"]) == (group, check)]
    return found


def drop_default_class(_: Path) -> None:
    kubectl("annotate", "--overwrite", "storageclass", default_class(), f"{IS_DEFAULT}=false")


def default_class() -> str:
    classes = json.loads(kubectl("get", "storageclasses", "-o", "json"))["items"]
    annotated = [one for one in classes if IS_DEFAULT in one["metadata"].get("annotations", {})]
    return str(annotated[0]["metadata"]["name"])


def wrong_label(_: Path) -> None:
    kubectl("label", "node", NODE, *(f"{key}-" for key in T4))


def taint(_: Path) -> None:
    kubectl("taint", "node", NODE, "dedicated=teaching:NoSchedule")


def delete_secret(_: Path) -> None:
    kubectl("-n", SERVING, "delete", "secret", "lorry-store")


def delete_key(_: Path) -> None:
    remove = json.dumps([{"op": "remove", "path": "/data/AWS_SECRET_ACCESS_KEY"}])
    kubectl("-n", SERVING, "patch", "secret", "lorry-store", "--type=json", "-p", remove)


def wrong_image(overlay: Path) -> None:
    pinned = overlay / "pinned" / "kustomization.yaml"
    text = pinned.read_text()
    tag = text.split("name: lorry/chat")[1].split("newTag:")[1].split()[0]
    pinned.write_text(text.replace(tag, "0123456789abcdef"))


def move_store(_: Path) -> None:
    elsewhere = json.dumps({"stringData": {"AWS_ENDPOINT_URL": "http://no-such-store.kubeflow:9000"}})
    kubectl("-n", SERVING, "patch", "secret", "lorry-store", "-p", elsewhere)


def small_quota(_: Path) -> None:
    kubectl("-n", SERVING, "create", "quota", "small", "--hard=requests.cpu=200m,requests.memory=1Gi")


def open_namespace(_: Path) -> None:
    kubectl("label", "--overwrite", "namespace", SERVING, "pod-security.kubernetes.io/enforce=privileged")


FAULTS = (
    Fault("no storage class", drop_default_class, "storage", "default class"),
    Fault("wrong pool label", wrong_label, "pools", "pool t4", ("--pool", "t4")),
    Fault("taint", taint, "pools", "pool t4", ("--pool", "t4")),
    Fault("missing Secret", delete_secret, "secrets", f"lorry-store in {SERVING}"),
    Fault("missing key", delete_key, "secrets", f"lorry-store in {SERVING}"),
    Fault("image missing", wrong_image, "images", f"chat in {SERVING}", ("--probe",)),
    Fault("store unreachable", move_store, "network", f"store from {SERVING}", ("--probe",)),
    Fault("quota", small_quota, "quota", f"small in {SERVING}"),
    Fault("PSA", open_namespace, "namespaces", SERVING),
)


@contextmanager
def prepared() -> Iterator[Path]:
    """An overlay in namespaces of its own, set up by what the doctor says alone; everything is deleted at the end."""
    with tempfile.TemporaryDirectory() as folder:
        manifests = Path(folder) / "manifests"
        shutil.copytree(ROOT / "manifests", manifests)
        overlay = manifests / "overlays" / "local"
        for path, namespace in ((overlay, SERVING), (overlay / "pipelines", RUNS)):
            text = (path / "kustomization.yaml").read_text()
            lines = [f"namespace: {namespace}" if line.startswith("namespace:") else line for line in text.splitlines()]
            (path / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        path = overlay / "namespace.yaml"
        path.write_text(path.read_text().replace("name: lorry\n", f"name: {SERVING}\n"))
        storage_class = default_class()
        try:
            yield overlay
        finally:
            kubectl("annotate", "--overwrite", "storageclass", storage_class, f"{IS_DEFAULT}=true")
            kubectl("delete", "node", NODE, "--ignore-not-found")
            kubectl("delete", "namespace", SERVING, RUNS, "--ignore-not-found", "--wait=false")
            for kind in ("clusterrole", "clusterrolebinding"):
                names = kubectl("get", kind, "-o", "name").split()
                if ours := [name for name in names if f"serviceaccount-{SERVING}-{USER}" in name]:
                    kubectl("delete", *ours)


def set_up(overlay: Path) -> int:
    """Run the commands of what is missing until nothing is; give how many were run."""
    number = 0
    for _ in range(6):
        # What else runs on the cluster may leave no room: no fault of this program's.
        missing = [row for row in doctor(overlay) if row["state"] == "missing" and row["group"] != "room"]
        if not missing:
            return number
        # One command may correct several rows.
        for fix in dict.fromkeys(row["fix"] for row in missing):
            correct({"fix": fix})
            number += 1
    raise AssertionError(f"still missing: {missing}")


def add_node() -> None:
    """A Node object with a GPU, that no machine is behind."""
    taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": T4},
                                        "spec": {"taints": taints}})  # fmt: skip
    be_ready()


def be_ready() -> None:
    """What a kubelet would write every few seconds."""
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "1"}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now}
    status = json.dumps({"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}})
    kubectl("patch", "node", NODE, "--subresource=status", "-p", status)
    for _ in range(60):
        taints = json.loads(kubectl("get", "node", NODE, "-o", "json"))["spec"]["taints"]
        if not any(one["key"].startswith("node.kubernetes.io/") for one in taints):
            return
        time.sleep(0.5)
    raise AssertionError(f"{NODE} keeps its taints: {taints}")


def visitor(folder: Path) -> str:
    """A kubeconfig of a user who may do nothing but look at the two namespaces' own objects."""
    kubectl("-n", SERVING, "create", "serviceaccount", USER)
    account = f"--serviceaccount={SERVING}:{USER}"
    for namespace in (SERVING, RUNS):
        kubectl("-n", namespace, "create", "rolebinding", "visitor", "--clusterrole=view", account)
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = kubectl("-n", SERVING, "create", "token", USER).strip()
    config["users"] = [{"name": USER, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = USER
    path = folder / "visitor.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def try_fault(fault: Fault, overlay: Path) -> tuple[str, ...]:
    """Break one thing, let the doctor name it, run its command, look again."""
    if "t4" in fault.options:
        be_ready()
    before = [
        row for row in doctor(overlay, *fault.options) if (row["group"], row["check"]) == (fault.group, fault.check)
    ]
    assert all(row["state"] == "ok" for row in before), before
    fault.make(overlay)
    began = time.monotonic()
    named = row_of(doctor(overlay, *fault.options), fault.group, fault.check)
    seconds = time.monotonic() - began
    assert named["state"] != "ok", named
    correct(named)
    if "t4" in fault.options:
        be_ready()
    after = [
        row for row in doctor(overlay, *fault.options) if (row["group"], row["check"]) == (fault.group, fault.check)
    ]
    assert all(row["state"] == "ok" for row in after), after
    return fault.name, f"{fault.group}: {fault.check}", named["state"], named["found"], named["fix"], f"{seconds:.1f}"


def try_rights(overlay: Path) -> tuple[str, ...]:
    """A user without rights: each row says which one, and an administrator's commands give them."""
    kubeconfig = visitor(overlay.parent)
    began = time.monotonic()
    rows = [row for row in doctor(overlay, kubeconfig=kubeconfig) if "has no right to" in row["found"]]
    seconds, number = time.monotonic() - began, 0
    first = row_of(rows, "kubernetes", f"rights in {SERVING}")
    assert first["state"] == "missing", first
    for _ in range(8):  # behind a list that is refused there may be another
        for fix in dict.fromkeys(row["fix"] for row in rows):
            correct({"fix": fix})
            number += 1
        rows = [row for row in doctor(overlay, kubeconfig=kubeconfig) if "has no right to" in row["found"]]
        if not rows:
            found = f"{first['found'][:120]} … and {number - 1} more"
            return "no rights", f"kubernetes: {first['check']}", "missing", found, first["fix"], f"{seconds:.1f}"
    raise AssertionError(rows)


def main() -> None:
    table = Table("fault", "row", "state", "found", "command that corrected it", "s")
    for column in table.columns:
        column.overflow = "fold"
    console = Console(width=240)
    with prepared() as overlay:
        console.print(f"set up by {set_up(overlay)} commands of the doctor's own")
        add_node()
        for fault in FAULTS:
            table.add_row(*try_fault(fault, overlay))
            console.print(f"{fault.name}: named and corrected")
        table.add_row(*try_rights(overlay))
    console.print(table, markup=False)


if __name__ == "__main__":
    main()
