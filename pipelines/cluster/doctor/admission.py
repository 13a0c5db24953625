"""Whether the cluster would take Lorry's pods: Pod Security, quotas, limits and webhooks, asked with a dry run."""

from __future__ import annotations

import json
from collections.abc import Iterator

from components.errors import ClusterError
from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.probes.pod import ProbePod
from pipelines.cluster.doctor.row import NOT_PROBED, Row
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.kubectl import ForbiddenError
from pipelines.cluster.overlay import Manifest

GROUP = "admission"


def pods(subject: Subject) -> Iterator[Row]:
    """Each Deployment's pod, and the largest step of a run: what the cluster answers to it, without making it."""
    if not subject.probing:
        yield Row(GROUP, "pods", "warning", NOT_PROBED)
        return
    for name, namespace, pod in _pods(subject):
        check = f"{name} in {namespace}"
        try:
            subject.kubectl.in_namespace(namespace).run("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))
        except ForbiddenError:
            raise
        except ClusterError as error:
            refusal = str(error).partition(" is forbidden: ")[2] or str(error)
            yield Row(GROUP, check, "missing", f"refused: {refusal}", _fix(subject, namespace, refusal))
        else:
            yield Row(GROUP, check, "ok", "the cluster would take it")


def _pods(subject: Subject) -> Iterator[tuple[str, str, Manifest]]:
    for one in subject.overlay.of_kind("Deployment") if subject.overlay else ():
        template = one["spec"]["template"]
        # It is made when the overlay is applied.
        spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
        # Without the labels that a Service or a Deployment selects by.
        metadata = {"name": "lorry-doctor-dry-run", "labels": {"sidecar.istio.io/inject": "false"}}
        yield one["metadata"]["name"], one["metadata"]["namespace"], _pod(spec, metadata)
    steps = {name: step_of(name, pool) for name, pool in subject.pools.items()}
    name = max(steps, key=lambda pool: (steps[pool].wanted["cpu"], steps[pool].wanted["memory"]))
    pool = subject.pools[name]
    step = ProbePod("step", subject.run_namespace, "lorry/step", "").manifest("lorry-doctor-dry-run", "dry-run")
    gpus = {pool.gpu_resource: str(pool.gpus)} if pool.gpus else {}
    requests, limits = {"cpu": pool.cpu, "memory": pool.memory, **gpus}, {"memory": pool.memory, **gpus}
    step["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    yield f"a step on {name}", subject.run_namespace, step


def _pod(spec: Manifest, metadata: Manifest) -> Manifest:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _fix(subject: Subject, namespace: str, refusal: str) -> str:
    if "PodSecurity" in refusal:
        return f"# take what it names out of {subject.overlay.folder if subject.overlay else 'the pod'}"
    return subject.command(namespace, "describe", "resourcequotas,limitranges")
