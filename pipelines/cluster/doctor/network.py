"""NetworkPolicies, and the reach of the store and of the hub from pods."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cluster.doctor.row import NOT_PROBED, Row
from pipelines.cluster.doctor.secrets import copying, kubeflows_store
from pipelines.cluster.doctor.subject import Subject

GROUP = "network"
# DaemonSets of network plugins that enforce NetworkPolicies, unless they are configured not to.
ENFORCING = ("calico", "canal", "cilium", "anetd", "antrea", "kube-router", "weave", "ovn", "kindnet")


def policies(subject: Subject) -> Iterator[Row]:
    """Whether the overlay's NetworkPolicies have an effect."""
    if subject.overlay is None or not subject.overlay.of_kind("NetworkPolicy"):
        return
    open_pod, closed = (subject.outcomes.get(f"policy {kind}") for kind in ("open", "closed"))
    if open_pod is None or closed is None:
        yield from _plugins(subject)
    elif not open_pod.ran or not closed.ran:
        why = closed.reason if open_pod.ran else open_pod.reason
        yield Row(GROUP, "policies", "warning", f"not probed: {why}")
    elif not open_pod.succeeded:
        yield Row(
            GROUP, "policies", "warning", f"not known: a pod without a policy reaches nothing ({open_pod.reason})"
        )
    elif closed.succeeded:
        yield Row(
            GROUP, "policies", "warning",
            "not enforced: a pod whose policy forbids all traffic reached the cluster's API; install a network plugin "
            f"that enforces them ({', '.join(ENFORCING)})",
            subject.command(None, "get", "daemonsets", "--all-namespaces"),
        )  # fmt: skip
    else:
        yield Row(GROUP, "policies", "ok", "enforced: a policy that forbids all traffic stopped a pod's")


def _plugins(subject: Subject) -> Iterator[Row]:
    sets = subject.kubectl.get("daemonsets.apps", "--all-namespaces")["items"]
    names = [one["metadata"]["name"] for one in sets]
    known = [name for name in names if any(plugin in name for plugin in ENFORCING)]
    if known:
        yield Row(GROUP, "policies", "ok", f"{', '.join(known)} should enforce them; {NOT_PROBED}")
        return
    yield Row(GROUP, "policies", "warning", f"no network plugin is known here that enforces them; {NOT_PROBED}")


def stores(subject: Subject) -> Iterator[Row]:
    """Whether pods reach the store with the credentials that they get."""
    for namespace, address in store_addresses(subject):
        outcome = subject.outcomes.get(f"store from {namespace}")
        check = f"store from {namespace}"
        if outcome is None:
            yield Row(GROUP, check, "warning", f"{address}: {NOT_PROBED}")
        elif outcome.succeeded:
            yield Row(GROUP, check, "ok", f"{address}: {' '.join(outcome.log.split())}")
        elif not outcome.ran:
            yield Row(GROUP, check, "warning", f"{address}: not probed: {outcome.reason}")
        else:
            found = outcome.reason if address in outcome.reason else f"{address}: {outcome.reason}"
            yield Row(GROUP, check, "missing", found, _correcting(subject, namespace, address))


def store_addresses(subject: Subject) -> list[tuple[str, str]]:
    """From which namespaces which buckets are read."""
    found = [(subject.run_namespace, subject.run_store or subject.serving_store)]
    if subject.overlay is not None:
        found.append((subject.overlay.namespace, subject.serving_store))
    return list(dict.fromkeys((namespace, it) for namespace, it in found if it and it.startswith(("s3://", "gs://"))))


def _correcting(subject: Subject, namespace: str, address: str) -> str:
    if kubeflows_store(subject, address):
        return copying(subject, namespace, subject.placement.store_secret)
    return subject.command(namespace, "get", "secret", subject.placement.store_secret)


def hub(subject: Subject) -> Iterator[Row]:
    """Whether steps reach the hub; only recipes whose base model or data is there need it."""
    outcome = subject.outcomes.get("hub")
    if outcome is None:
        yield Row(GROUP, "hub", "warning", NOT_PROBED)
    elif outcome.succeeded:
        yield Row(GROUP, "hub", "ok", outcome.log.strip())
    else:
        yield Row(
            GROUP, "hub", "warning",
            f"{outcome.reason}; `lorry submit` can take what lies in your store or on a volume instead",
        )  # fmt: skip
