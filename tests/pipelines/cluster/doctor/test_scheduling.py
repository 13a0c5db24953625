"""Requests, taints and selectors as the scheduler counts them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.quantity import amount, shown_all
from pipelines.cluster.doctor.room import to_roll_out, to_serve
from pipelines.cluster.doctor.scheduling import Node, PodRequest, nodes_of, place, wanted_by
from pipelines.config.pools import POOLS

CORE = Decimal(1)


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "it", "resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("spec", "cores"),
    [
        ({"containers": [container("1"), container("500m")]}, "1.5"),
        ({"containers": [container("250m")], "initContainers": [container("100m")]}, "0.25"),
        ({"containers": [container("100m")], "initContainers": [container("2"), container("1")]}, "2"),
        # A sidecar runs beside all that comes after it.
        ({"containers": [container("1")], "initContainers": [container("1", restartPolicy="Always")]}, "2"),
        ({"containers": [{"name": "it", "resources": {"limits": {"cpu": "3"}}}]}, "3"),
        ({"containers": [{"name": "it"}], "overhead": {"cpu": "250m"}}, "0.25"),
    ],
)
def test_a_pod_asks_for_the_sum_of_its_containers_or_its_largest_init_container(spec, cores):
    assert wanted_by(spec)["cpu"] == Decimal(cores)


def node(name: str, cores: str, *taints: dict[str, str], **labels: str) -> Node:
    return Node(name, labels, taints, {"cpu": Decimal(cores), "pods": Decimal(10)}, {})


TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "takes"),
    [
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "value": "ml"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_keeps_pods_away_that_do_not_tolerate_it(toleration, takes):
    pod = PodRequest("it", {"cpu": CORE}, tolerations=[toleration])
    assert node("tainted", "2", TAINT).takes(pod) is takes
    assert node("preferred", "2", {**TAINT, "effect": "PreferNoSchedule"}).takes(PodRequest("it", {"cpu": CORE}))


def test_the_largest_pods_are_placed_first_and_what_is_left_is_named():
    pods = [
        PodRequest("small", {"cpu": CORE}),
        PodRequest("large", {"cpu": 2 * CORE}),
        PodRequest("gpu", {"gpu": CORE}),
    ]
    after, left = place(pods, [node("one", "2"), node("two", "1")])
    assert [one.free["cpu"] for one in after] == [0, 0]
    assert [one.name for one in left] == ["gpu"]


def test_nodes_that_are_not_ready_or_cordoned_take_nothing():
    def manifest(name: str, status: str, **spec: Any) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": status}]
        return {
            "metadata": {"name": name},
            "spec": spec,
            "status": {"conditions": conditions, "allocatable": {"cpu": "2"}},
        }

    pods = [
        {"spec": {"nodeName": "good", "containers": [container("500m")]}},
        {"spec": {"containers": [container("9")]}},
    ]
    several = [manifest("good", "True"), manifest("bad", "Unknown"), manifest("cordoned", "True", unschedulable=True)]
    (ready,) = nodes_of(several, pods)
    assert (ready.name, ready.free["cpu"]) == ("good", Decimal("1.5"))


def test_a_step_asks_for_what_its_pool_says():
    step = step_of("t4", POOLS["t4"].model_copy(update={"spot": True}))
    assert shown_all(step.wanted) == "3 cores, 12 GiB, 1 nvidia.com/gpu"
    assert step.selector == {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
        "cloud.google.com/gke-spot": "true",
    }
    assert [one["key"] for one in step.tolerations] == ["nvidia.com/gpu", "cloud.google.com/gke-spot"]


def test_on_two_cores_beside_kubeflow_there_is_room_for_serving_a_roll_out_and_a_run(subject):
    """What the overlay for one machine asks for, and the demo's steps: Kubeflow's own pods ask for 0.55 cores."""
    visited = subject({})
    visited.state.pods = []
    serving, surge = to_serve(visited), to_roll_out(visited)
    assert {one.name for one in serving} == {"chat", "model-server"}
    assert [one.name for one in surge] == ["model-server"]
    step = step_of("cpu", visited.pools["cpu"])
    one_node = [Node("small", {}, [], {"cpu": amount("1450m"), "memory": amount("16Gi"), "pods": Decimal(99)}, {})]
    assert place([*serving, *surge, step], one_node)[1] == []
