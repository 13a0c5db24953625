"""Pools of nodes, and the recipe's section that names them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.errors import RecipeError
from pipelines.config.pools import POOLS, Placement, Pool, Toleration


def test_a_pool_takes_what_it_leaves_out_from_lorrys_of_its_name():
    placement = Placement.model_validate({"pools": {"t4": {"cpu": 6}, "l40s": {"gpus": 1}}})
    assert placement.pools["t4"] == POOLS["t4"].model_copy(update={"cpu": "6"})
    assert placement.pools["l40s"] == Pool(gpus=1)
    assert placement.pools["small"] == POOLS["small"]


def test_training_moves_to_another_pool_that_is_there():
    assert Placement().on(None).pool == "t4"
    assert Placement().on("a100").pool == "a100"
    with pytest.raises(RecipeError, match=r"--pool h100: none of small, cpu, t4, a100"):
        Placement().on("h100")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"pool": "h100"}, "h100"),
        ({"pools": {"t4": {"cpu": "four"}}}, "cpu"),
        ({"pools": {"t4": {"memory": 16}}}, "memory"),
        ({"pools": {"t4": {"memory": "0Gi"}}}, "memory"),
        ({"pools": {"T4": {}}}, "T4"),
        ({"pools": {"t4": {"node_selector": {"a b": "c"}}}}, "node_selector"),
        ({"pools": {"t4": {"timeout_minutes": 0}}}, "timeout_minutes"),
        ({"hub_secret": "Not_A_Name"}, "hub_secret"),
        ({"pools": {"t4": {"gpu": 1}}}, "gpu"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_by_its_key(given, named):
    with pytest.raises(ValidationError, match=named):
        Placement.model_validate(given)


@pytest.mark.parametrize(("written", "kept"), [(4, "4"), (0.5, "0.5"), ("500m", "500m"), ("1.5", "1.5")])
def test_cores_are_taken_as_yaml_reads_them(written, kept):
    assert Pool.model_validate({"cpu": written}).cpu == kept


@pytest.mark.parametrize("given", [{"operator": "Equal"}, {"operator": "Exists", "value": "true"}])
def test_a_toleration_has_a_value_for_equal_alone(given):
    with pytest.raises(ValidationError, match="Equal needs a value"):
        Toleration.model_validate({"key": "spot", **given})
