"""The metrics that autoscaling needs, where an overlay has it."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.kubectl import MissingObjectError

GROUP = "autoscaling"
APIS = ("v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")


def adapter(subject: Subject) -> Iterator[Row]:
    """Whether an adapter gives the metrics of pods, and knows the autoscaler's one."""
    if subject.overlay is None or not (scalers := subject.overlay.of_kind("HorizontalPodAutoscaler")):
        yield Row(GROUP, "metrics adapter", "ok", "not needed: no autoscaler in the overlay")
        return
    services = subject.kubectl.get("apiservices.apiregistration.k8s.io")["items"]
    found = {one["metadata"]["name"]: one for one in services if one["metadata"]["name"] in APIS}
    if not found:
        yield Row(
            GROUP, "metrics adapter", "missing",
            "no API custom.metrics.k8s.io: install an adapter such as prometheus-adapter, or take the component "
            "autoscaling out of the overlay",
            subject.command(None, "get", "apiservices"),
        )  # fmt: skip
        return
    for name, service in found.items():
        if not any(one["type"] == "Available" and one["status"] == "True" for one in service["status"]["conditions"]):
            yield Row(
                GROUP, "metrics adapter", "missing", f"{name} is not available",
                subject.command(None, "describe", "apiservice", name),
            )  # fmt: skip
            return
    for metric in sorted({each["pods"]["metric"]["name"] for one in scalers for each in one["spec"]["metrics"]}):
        yield _metric(subject, next(iter(found)).partition(".")[0], metric)


def _metric(subject: Subject, version: str, metric: str) -> Row:
    assert subject.overlay is not None
    path = f"/apis/custom.metrics.k8s.io/{version}/namespaces/{subject.overlay.namespace}/pods/*/{metric}"
    try:
        subject.kubectl.run("get", "--raw", path)
    except MissingObjectError:
        return Row(
            GROUP, f"metric {metric}", "warning",
            "the adapter does not have it: no server runs yet, or nothing collects its /metrics (service-monitor)",
            subject.command(None, "get", "--raw", path),
        )  # fmt: skip
    return Row(GROUP, f"metric {metric}", "ok", "the adapter has it")
