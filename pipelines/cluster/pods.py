"""The pods of a run, where a kubeconfig reaches the cluster: why one of them does not start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.errors import ClusterError
from pipelines.cluster.pod_reasons import why_waiting
from pipelines.graph.placement import RUN_LABEL

SECONDS_TO_ANSWER = 10
NODE_NAME = "workflows.argoproj.io/node-name"


class RunPods:
    """Reads the pods of one run. A cluster that no kubeconfig reaches has none, nor has another cluster."""

    def __init__(self, context: str | None, namespace: str, run_id: str) -> None:
        """``context`` None takes the kubeconfig's current one."""
        self.namespace = namespace
        self.run_id = run_id
        self._core = _core(context)

    @property
    def command(self) -> str:
        """What shows a person why a pod waits."""
        return f"kubectl -n {self.namespace} describe pods -l {RUN_LABEL}={self.run_id}"

    def reasons(self) -> dict[str, str] | None:
        """Why pods that have not started wait, by the full name of Argo's node; None where no way leads to the pods."""
        pods = self._pods()
        try:
            # Without a pod it is another cluster, or a namespace that this user may not see.
            return {_node_of(pod): self._reason(pod) for pod in pods if pod.status.phase == "Pending"} if pods else None
        except Exception:  # as in _pods: a pod's events may be refused
            self._core = None
            return None

    def out_of_memory(self, node: str | None) -> str | None:
        """The message for a pod whose container the kernel killed for lack of memory; None for any other."""
        for pod in self._pods():
            ended = [one.state.terminated for one in pod.status.container_statuses or [] if one.state]
            if _node_of(pod) == node and any(one is not None and one.reason == "OOMKilled" for one in ended):
                limits = [one.resources.limits or {} for one in pod.spec.containers if one.name == "main"]
                limit = limits[0].get("memory", "its limit") if limits else "its limit"
                return (
                    f"out of memory: its container was killed at {limit}; give the pool more "
                    "(placement.pools.NAME.memory), or set smaller batches or a smaller train.max_length"
                )
        return None

    def _pods(self) -> list[Any]:
        """The run's pods; none where no way leads to them."""
        if self._core is None:
            return []
        selector = f"{RUN_LABEL}={self.run_id}"
        try:
            return list(
                self._core.list_namespaced_pod(
                    self.namespace, label_selector=selector, _request_timeout=SECONDS_TO_ANSWER
                ).items
            )
        except Exception:  # the run is what matters: whatever is wrong with this way to the cluster, it goes on
            self._core = None
            return []

    def _reason(self, pod: Any) -> str:
        assert self._core is not None
        found = why_waiting(self._core.api_client.sanitize_for_serialization(pod))
        return found or self._last_warning(pod) or "its pod is being set up"

    def _last_warning(self, pod: Any) -> str | None:
        assert self._core is not None
        events = self._core.list_namespaced_event(
            self.namespace,
            field_selector=f"involvedObject.name={pod.metadata.name},type=Warning",
            _request_timeout=SECONDS_TO_ANSWER,
        ).items
        return " ".join(str(events[-1].message).split()) if events else None


def _node_of(pod: Any) -> str:
    annotations: Mapping[str, str] = pod.metadata.annotations or {}
    return annotations.get(NODE_NAME, pod.metadata.name)


def _core(context: str | None) -> Any | None:
    from kubernetes import client, config

    try:
        api = config.new_client_from_config(context=context)
    except Exception as error:  # no kubeconfig, or one that cannot be read: then there is none
        if context is not None:
            raise ClusterError(f"--context {context}: {error}; see kubectl config get-contexts") from error
        return None
    api.configuration.retries = False
    return client.CoreV1Api(api)
