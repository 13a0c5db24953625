"""Whether a rolled out server serves its model and answers as that model's manifest says."""

from __future__ import annotations

import time

from components.errors import ClusterError
from pipelines.cluster.deploy.ask import Answer, KeyRequiredError, ask_server
from pipelines.cluster.deploy.snapshot import SECONDS_BETWEEN, Report, RolloutFailedError
from pipelines.cluster.deploy.workloads import Workload, service_of
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import Overlay

# Longer than a pod of before takes to end: kubectl may forward to one that ends.
SECONDS_TO_SETTLE = 90.0


def verify(overlay: Overlay, server: Workload, kubectl: Kubectl, report: Report) -> Answer | None:
    """Ask a server through its Service; None where it wants a key that is not there.

    Raises:
        RolloutFailedError: it serves another model, answers otherwise than its manifest says, or does not answer.
    """
    try:
        answer = _settled(kubectl, service_of(overlay, server.name), server)
    except KeyRequiredError as error:
        report(f"{server.name}: its answer was not compared: {error}")
        return None
    if answer.sha256 not in (None, server.model):
        raise RolloutFailedError(f"{server.name}: serves the model {answer.sha256}, not {server.model}")
    if answer.comparison.agrees is False:
        raise RolloutFailedError(f"{server.name}: its answer is wrong: {answer.comparison.explanation}")
    report(f"{server.name}: answers; {answer.comparison.explanation}")
    return answer


def _settled(kubectl: Kubectl, service: str, server: Workload) -> Answer:
    """The answer of a new pod, or what there is after a while."""
    deadline = time.monotonic() + SECONDS_TO_SETTLE
    while True:
        try:
            answer = ask_server(kubectl, f"service/{service}")
            if answer.sha256 in (None, server.model) or time.monotonic() > deadline:
                return answer
        except KeyRequiredError:
            raise
        except ClusterError as error:
            if time.monotonic() > deadline:
                raise RolloutFailedError(f"{server.name}: {error}") from error
        time.sleep(SECONDS_BETWEEN)
