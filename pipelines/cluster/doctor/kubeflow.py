"""Kubeflow Pipelines: its version, whether it takes this user's login, and the retry policy of Argo's controller."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.argo_retries.policy import DEFAULTS, POLICY, WHOLE
from components.errors import ClusterError
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import KUBEFLOW, Subject
from pipelines.cluster.endpoint import WAY
from pipelines.cluster.kubeflow import Kubeflow

GROUP = "kubeflow"
OLDEST, NEWEST = (2, 15), (2, 18)
THROUGH_KUBERNETES = f"/api/v1/namespaces/{KUBEFLOW}/services/ml-pipeline:8888/proxy/apis/v2beta1/healthz"
CONTROLLER = "workflow-controller-configmap"


def api(subject: Subject) -> Iterator[Row]:
    """Version and login, through ``--endpoint``; without one the version alone, through Kubernetes."""
    if subject.endpoint is None:
        yield _through_kubernetes(subject)
        yield Row(
            GROUP, "login", "warning", "not tried: no --endpoint (KFP_ENDPOINT)",
            f"{WAY} & export KFP_ENDPOINT=http://127.0.0.1:8081",
        )  # fmt: skip
        return
    try:
        kubeflow = Kubeflow(subject.endpoint, subject.token, subject.profile)
        yield _version(kubeflow.health())
        kubeflow.check_login()
    except ClusterError as error:
        yield Row(GROUP, "api", "missing", str(error), WAY)
        return
    yield Row(GROUP, "login", "ok", f"{kubeflow.endpoint} takes it" + ("" if subject.token else " (without a token)"))


def _through_kubernetes(subject: Subject) -> Row:
    answer = subject.kubectl.run("get", "--raw", THROUGH_KUBERNETES)
    try:
        health = json.loads(answer)
    except ValueError:
        health = None
    if isinstance(health, dict):
        return _version(health)
    return Row(
        GROUP, "version", "missing",
        f"the Service ml-pipeline in {KUBEFLOW} answers as no Kubeflow does: {' '.join(answer.split())[:80]!r}",
        subject.command(KUBEFLOW, "get", "service,pods", "--output=wide"),
    )  # fmt: skip


def _version(health: dict[str, Any]) -> Row:
    tag = str(health.get("tag_name", ""))
    users = "for several users" if health.get("multi_user") else "for one user"
    numbers = re.findall(r"\d+", tag)[:2]
    if len(numbers) == 2 and OLDEST <= (int(numbers[0]), int(numbers[1])) <= NEWEST:
        return Row(GROUP, "version", "ok", f"Kubeflow Pipelines {tag}, {users}")
    tried = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    return Row(
        GROUP, "version", "warning", f"Kubeflow Pipelines {tag or 'of no version'}; Lorry was tried with {tried}"
    )


def retries(subject: Subject) -> Iterator[Row]:
    """Argo's retry policy: whether a pod whose container was killed, or whose node went, is tried again."""
    found = subject.state.get(KUBEFLOW, "configmap", CONTROLLER)
    if found is None:
        yield Row(
            GROUP, "retries", "missing", f"no ConfigMap {CONTROLLER} in {KUBEFLOW}: Argo's controller is not there",
            subject.command(KUBEFLOW, "get", "deployments"),
        )  # fmt: skip
        return
    try:
        policy = _retry_policy(found.get("data") or {})
    except (YAMLError, AttributeError) as error:
        why = (
            "a text or a list where keys belong" if isinstance(error, AttributeError) else " ".join(str(error).split())
        )
        yield Row(
            GROUP, "retries", "missing",
            f"Argo's controller cannot read its ConfigMap {CONTROLLER} ({why[:160]}); correct it",
            subject.command(KUBEFLOW, "edit", "configmap", CONTROLLER),
        )  # fmt: skip
        return
    if policy == POLICY:
        yield Row(GROUP, "retries", "ok", "pods that were killed or lost are tried again, errors of yours are not")
        return
    if policy is not None and policy.get("retryPolicy") == "Always":
        has = "has an expression of its own" if policy.get("expression") else "repeats errors of yours too"
        yield Row(
            GROUP, "retries", "ok" if policy.get("expression") else "warning", f"retryPolicy Always, and it {has}"
        )
        return
    yield Row(
        GROUP, "retries", "warning",
        "a step whose whole container was killed or whose node shut down is not tried again (docs/cluster.md, What is "
        "tried again)", _adding_retries(subject),
    )  # fmt: skip


def _retry_policy(data: Mapping[str, str]) -> dict[str, str] | None:
    """The ``retryStrategy`` of every template, from the controller's ConfigMap."""
    yaml = YAML(typ="safe")
    defaults = yaml.load(data.get(DEFAULTS, "")) or (yaml.load(data.get(WHOLE, "")) or {}).get(DEFAULTS) or {}
    found = ((defaults.get("spec") or {}).get("templateDefaults") or {}).get("retryStrategy")
    return None if found is None else {str(key): str(value) for key, value in found.items()}


def _adding_retries(subject: Subject) -> str:
    if subject.pipelines is None:
        return ""
    folder = subject.pipelines.folder
    has_job = any(one["metadata"]["name"] == "lorry-argo-retries" for one in subject.pipelines.of_kind("Job"))
    line = rf"sed -i 's|^resources:|&\n  - ../../../components/argo-retries|' {folder}/kustomization.yaml && "
    return (
        ("" if has_job else line)
        + subject.command(
            KUBEFLOW, "delete", "job", "lorry-prepare-volumes", "lorry-argo-retries", "--ignore-not-found"
        )
        + f" && {subject.command(None, 'apply', '-k', str(folder))}"
    )
