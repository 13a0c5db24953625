"""One step of a compiled document as a Job: the pod that Kubeflow's driver and launcher would make of it.

The command is the document's own. What Kubeflow puts in its place, the executor's input, is made here, with artifacts
as paths of a volume.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Manifest, load_yaml

# What a document cannot say: Kubeflow, or the cluster, must add it where a namespace enforces "restricted".
NOT_IN_A_DOCUMENT = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip


class Steps:
    """The steps of one document, whose artifacts lie in ``folder`` of a volume that every step has."""

    def __init__(self, document: Path, arguments: dict[str, Any], folder: str) -> None:
        self.spec, platform = load_yaml(document)
        self.platform = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.arguments = arguments
        self.folder = folder
        self.metadata: dict[str, dict[str, Any]] = {}

    def output_file(self, step: str) -> str:
        """Where a step writes what it says of its artifacts."""
        return f"{self.folder}/{step}/executor_output.json"

    def learn(self, output: str) -> None:
        """Take over the metadata of a finished step's artifacts."""
        for artifacts in json.loads(output)["artifacts"].values():
            for artifact in artifacts["artifacts"]:
                self.metadata[artifact["uri"]] = artifact["metadata"]

    def job(self, step: str) -> Manifest:
        """The Job that runs a step."""
        container = self.spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        platform = self.platform[f"exec-{step}"]
        resources = container["resources"]
        gpu = resources.get("accelerator", {})
        limits = {"memory": resources["resourceMemoryLimit"]}
        limits |= {gpu["resourceType"]: gpu["resourceCount"]} if gpu else {}
        volumes, mounts = _volumes(platform)
        executor_input = json.dumps(self._executor_input(step))
        words = [executor_input if word == "{{$}}" else word for word in (*container["command"], *container["args"])]
        folders = shlex.join(["mkdir", "-p", f"{self.folder}/{step}"])
        pod = {
            "restartPolicy": "Never",
            "nodeSelector": platform.get("nodeSelector", {}).get("labels", {}),
            "tolerations": platform.get("tolerations", []),
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "command": ["sh", "-ec", f'{folders}; exec "$@"', "sh", *words],
                    "env": [*_own_variables(container), *_secret_variables(platform)],
                    "resources": {
                        "requests": {
                            "cpu": resources["resourceCpuRequest"],
                            "memory": resources["resourceMemoryRequest"],
                        },
                        "limits": limits,
                    },
                    "securityContext": {**_user(platform), **NOT_IN_A_DOCUMENT},
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": step},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": int(platform["activeDeadlineSeconds"]),
                "template": {"spec": pod},
            },
        }

    def _executor_input(self, step: str) -> dict[str, Any]:
        task = self.spec["root"]["dag"]["tasks"][step]
        component = self.spec["components"][task["componentRef"]["name"]]
        outputs = component["outputDefinitions"]["artifacts"]
        artifacts = {
            name: self._artifact(
                given["taskOutputArtifact"]["producerTask"], given["taskOutputArtifact"]["outputArtifactKey"]
            )
            for name, given in task["inputs"].get("artifacts", {}).items()
        }
        return {
            "inputs": {
                "parameterValues": {name: self._value(given) for name, given in task["inputs"]["parameters"].items()},
                "artifacts": artifacts,
            },
            "outputs": {
                "artifacts": {name: self._artifact(step, name) for name in outputs},
                "outputFile": self.output_file(step),
            },
        }

    def _value(self, given: dict[str, Any]) -> Any:
        if "componentInputParameter" in given:
            return self.arguments[given["componentInputParameter"]]
        constant = given["runtimeValue"]["constant"]
        return "a-run" if constant == "{{$.pipeline_job_uuid}}" else constant

    def _artifact(self, step: str, name: str) -> dict[str, Any]:
        component = self.spec["components"][self.spec["root"]["dag"]["tasks"][step]["componentRef"]["name"]]
        uri = f"{self.folder}/{step}/{name}"
        kind = component["outputDefinitions"]["artifacts"][name]["artifactType"]
        return {"artifacts": [{"name": name, "uri": uri, "type": kind, "metadata": self.metadata.get(uri, {})}]}


def _own_variables(container: dict[str, Any]) -> list[Manifest]:
    # The cluster of a test may have a GPU in name only, and a step that was given one wants to see it.
    return [variable for variable in container["env"] if variable["name"] != "LORRY_GPUS"]


def _secret_variables(platform: dict[str, Any]) -> list[Manifest]:
    found = []
    for secret in platform["secretAsEnv"]:
        for key in secret["keyToEnv"]:
            reference = {"name": secret["secretName"], "key": key["secretKey"], "optional": secret["optional"]}
            found.append({"name": key["envVar"], "valueFrom": {"secretKeyRef": reference}})
    return found


def _user(platform: dict[str, Any]) -> dict[str, Any]:
    context = platform["securityContext"]
    return {
        "runAsUser": int(context["runAsUser"]),
        "runAsGroup": int(context["runAsGroup"]),
        "runAsNonRoot": context["runAsNonRoot"],
    }


def _volumes(platform: dict[str, Any]) -> tuple[list[Manifest], list[Manifest]]:
    volumes, mounts = [], []
    for place, mount in enumerate(platform["pvcMount"]):
        volumes.append({"name": f"claim-{place}", "persistentVolumeClaim": {"claimName": mount["constant"]}})
        mounts.append({"name": f"claim-{place}", "mountPath": mount["mountPath"]})
    for place, mount in enumerate(platform.get("emptyDirMounts", [])):
        memory = {"medium": mount["medium"], "sizeLimit": mount["sizeLimit"]}
        volumes.append({"name": f"empty-{place}", "emptyDir": memory})
        mounts.append({"name": f"empty-{place}", "mountPath": mount["mountPath"]})
    return volumes, mounts
