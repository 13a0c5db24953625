"""A roll-out read from objects in the form in which Kubernetes gives them."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cluster.deploy.rollout import REVISION, Problem, revisions_of, rollout_of

PULLING = {"reason": "ErrImagePull", "message": "not found"}


def deployment(generation: int = 2, conditions: list[dict[str, str]] | None = None, **status: int) -> dict[str, Any]:
    found = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1, **status}
    return {
        "metadata": {"name": "server", "generation": generation, "annotations": {REVISION: "5"}},
        "spec": {"replicas": 1},
        "status": {**found, "conditions": conditions or []},
    }


def replica_set(name: str, revision: str, owner: str = "server") -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {REVISION: revision}, "ownerReferences": [{"name": owner}]}}


SETS = [replica_set("server-old", "4"), replica_set("server-new", "5"), replica_set("page-new", "5", "page")]


def pod(name: str = "server-new-1", owner: str = "server-new", ready: bool = False, **container: Any) -> dict[str, Any]:
    status = {
        "name": "server",
        "image": "registry/server:1",
        "ready": ready,
        "restartCount": 0,
        "state": {},
        **container,
    }
    return {
        "metadata": {"name": name, "ownerReferences": [{"name": owner}]},
        "status": {"containerStatuses": [status], "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_new_pods_are_those_of_the_newest_revision_that_do_not_end():
    ending = pod("server-new-0")
    ending["metadata"]["deletionTimestamp"] = "2026-11-28T16:00:00Z"
    pods = [pod("server-old-1", "server-old", ready=True), ending, pod(state={"running": {}})]
    found = rollout_of(deployment(), SETS, pods)
    assert dict(found.pods) == {"server-new-1": "server runs and is not ready yet"}
    assert (found.done, found.n_old, found.revision, found.problem) == (False, 1, "5", None)
    assert found.line == (
        "0 of 1 new pods ready; server-new-1: server runs and is not ready yet; 1 of before still there"
    )


def test_it_is_done_when_the_new_pods_are_available_and_the_old_ones_gone():
    assert rollout_of(deployment(replicas=1), SETS, [pod(ready=True)]).done
    assert not rollout_of(deployment(replicas=1, availableReplicas=0), SETS, [pod()]).done
    assert not rollout_of(deployment(), SETS, [pod(ready=True)]).done, "an old pod is still there"


def test_what_the_controller_has_not_seen_yet_is_not_judged():
    refused = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    found = rollout_of(deployment(generation=3, replicas=1, conditions=refused), SETS, [pod(ready=True)])
    assert (found.done, found.problem, dict(found.pods)) == (False, None, {})


@pytest.mark.parametrize(
    ("condition", "reason", "grace"),
    [
        (
            {
                "type": "ReplicaFailure",
                "status": "True",
                "message": 'pods "server-1" is forbidden:\n exceeded quota: small',
            },
            'the cluster refuses its pods: pods "server-1" is forbidden: exceeded quota: small',
            15,
        ),
        (
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
            "no progress for its progressDeadlineSeconds: timed out",
            0,
        ),
    ],
)
def test_conditions_of_the_deployment_are_problems(condition, reason, grace):
    assert rollout_of(deployment(conditions=[condition]), SETS, []).problem == Problem(reason, grace)


@pytest.mark.parametrize(
    ("container", "crashes"),
    [
        ({"state": {"terminated": {"exitCode": 1}}}, False),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}, False),
        ({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 1}, False),
        ({"state": {"terminated": {"exitCode": 1}}, "restartCount": 1}, True),
        (
            {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 2},
            True,
        ),
        ({"state": {"terminated": {"exitCode": 0}}, "restartCount": 3}, False),
    ],
)
def test_the_second_crash_of_a_container_is_a_problem(container, crashes):
    problem = rollout_of(deployment(), SETS, [pod(**container)]).problem
    expected = Problem("its container server ended twice (exit code 1)", 0, "server-new-1", "server")
    assert problem == (expected if crashes else None)


def test_lack_of_memory_is_named():
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    problem = rollout_of(deployment(), SETS, [pod(state=killed, restartCount=1)]).problem
    assert problem is not None
    assert problem.reason == "its container server was killed for lack of memory (exit code 137)"


@pytest.mark.parametrize(("reason", "may_pass"), [("ErrImagePull", True), ("ErrImageNeverPull", False)])
def test_an_image_that_cannot_be_pulled_is_a_problem_at_once_or_soon(reason, may_pass):
    problem = rollout_of(deployment(), SETS, [pod(state={"waiting": {**PULLING, "reason": reason}})]).problem
    assert problem is not None
    assert problem.reason.startswith(
        "its image registry/server:1 cannot be pulled (not found); build and push it with:"
    )
    assert (problem.grace_seconds > 0) == may_pass


def test_an_init_container_counts_too():
    waiting = pod()
    crashed = {"name": "fetch-model", "image": "i", "state": {"terminated": {"exitCode": 1}}, "restartCount": 1}
    waiting["status"]["initContainerStatuses"] = [crashed]
    problem = rollout_of(deployment(), SETS, [waiting]).problem
    assert problem is not None
    assert problem.container == "fetch-model"


def test_a_roll_out_that_is_done_has_no_problem():
    restarted = pod(ready=True, restartCount=4, lastState={"terminated": {"exitCode": 1}})
    assert rollout_of(deployment(replicas=1), SETS, [restarted]).problem is None


def test_revisions_are_those_of_the_deployment():
    assert sorted(revisions_of("server", SETS)) == [4, 5]
