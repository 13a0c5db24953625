"""From listing to deletion: what is shown is what goes, and it is looked at again before it does."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from components.errors import RecipeError
from components.storage.published_models import CURRENT_KEY, published
from components.storage.store import Store
from pipelines.cluster.kubectl import Kubectl
from pipelines.garbage.collect import Plan, delete, make_plan
from pipelines.garbage.knowledge import Sources
from pipelines.garbage.places import Place, StorePlace, VolumePlace
from pipelines.garbage.table import as_json, size
from pipelines.garbage.volume_job import VolumeJob
from tests.components.collect_garbage.test_checkpoint_items import KEYS, make
from tests.components.collect_garbage.test_store_items import NOTE
from tests.pipelines.garbage.kubectl_stand_in import WORKLOADS, workload
from tests.pipelines.garbage.test_knowledge import asked, run
from tests.pipelines.garbage.test_pins import overlay

MONTH = timedelta(days=30)


def silent(_: str) -> None:
    pass


def store(tmp_path: Path) -> list[Place]:
    return [StorePlace(str(tmp_path / "store"))]


def planned(places: list[Place], sources: Sources, keep: int = 0) -> Plan:
    return make_plan(places, sources, keep, MONTH, silent)


def going(plan: Plan) -> list[str]:
    return [one.item.name for one in plan.going]


def outcomes_of(places: list[Place], sources: Sources, plan: Plan) -> dict[str, str | None]:
    """Delete what the plan lists; why each was not deleted, or None."""
    done = delete(places, sources, 0, MONTH, plan, silent)
    return {outcome.name: outcome.kept_because for _, outcome in done}


def test_old_models_go_and_current_and_pinned_ones_stay(tmp_path, models):
    pinning = overlay(tmp_path / "overlay", **{"model-server": models[0]})
    sources = Sources(overlays=[pinning])
    plan = planned(store(tmp_path), sources)
    assert going(plan) == [models[1]]
    assert plan.looked_at[0] == f"overlays: {pinning}"
    ((place, outcome),) = delete(store(tmp_path), sources, 0, MONTH, plan, silent)
    assert (place, outcome.name, outcome.kept_because) == (str(tmp_path / "store"), models[1], None)
    assert published(Store(str(tmp_path / "store"))) == sorted([models[0], models[2]])


def test_a_pin_that_was_made_after_the_list_keeps_its_model(tmp_path, models, cluster):
    sources = Sources(clusters=[Kubectl()])
    plan = planned(store(tmp_path), sources)
    assert sorted(going(plan)) == sorted(models[:2])
    cluster.answers(WORKLOADS, {"items": [workload("Deployment", "server", models[0])]})
    outcomes = {
        outcome.name: outcome.kept_because for _, outcome in delete(store(tmp_path), sources, 0, MONTH, plan, silent)
    }
    assert outcomes == {models[1]: None, models[0]: "served by Deployment lorry/server"}
    assert models[0] in published(Store(str(tmp_path / "store")))


def test_what_was_not_shown_does_not_go_and_what_is_gone_is_said(tmp_path, models):
    plan = planned(store(tmp_path), Sources())
    Store(str(tmp_path / "store")).put_bytes(CURRENT_KEY, json.dumps({"sha256": models[0], "recipe": "r"}).encode())
    for path in (tmp_path / "store/models" / models[1]).iterdir():
        path.unlink()
    outcomes = {
        outcome.name: outcome.kept_because for _, outcome in delete(store(tmp_path), Sources(), 0, MONTH, plan, silent)
    }
    # The newest became old by the pointer's move; the list did not have it.
    assert outcomes == {models[0]: "the current model of its store", models[1]: "it was gone already"}
    assert models[2] in published(Store(str(tmp_path / "store")))


def test_checkpoints_of_a_kept_model_and_of_an_active_run_stay(tmp_path, models, cluster, volume):
    make(volume)
    claim: Place = VolumePlace(VolumeJob(Kubectl(None, "kubeflow"), "checkpoints", "", "image", 0.0))
    assert going(planned([claim], asked(run("over", "SUCCEEDED")))) == [KEYS[0]]
    assert going(planned([claim], asked(run("now", "PENDING")))) == []
    manifest = tmp_path / "store/models" / models[2] / "model.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "run_key": KEYS[0]}))
    plan = planned([claim, *store(tmp_path)], asked(run("over", "SUCCEEDED")))
    assert sorted(going(plan)) == sorted(models[:2])
    assert next(one.reason for one in plan.decisions if one.item.name == KEYS[0]).endswith("which stays, needs it")


def test_a_volume_is_cleaned_with_one_job_to_list_and_one_to_delete(cluster, volume):
    make(volume)
    make(volume, KEYS[1], days=1)
    places: list[Place] = [VolumePlace(VolumeJob(Kubectl(None, "kubeflow"), "checkpoints", "", "image", 0.0))]
    sources = asked(run("over", "SUCCEEDED"))
    plan = planned(places, sources)
    ((_, outcome),) = delete(places, sources, 0, MONTH, plan, silent)
    assert (outcome.name, outcome.kept_because) == (KEYS[0], None)
    assert [path.name for path in volume.iterdir()] == [KEYS[1]]
    assert len([one for one in cluster.state["asked"] if one.startswith("create")]) == 2


def test_a_store_that_another_kubeflow_uses_too_keeps_its_inputs_and_says_so(tmp_path, models):
    address, revision = str(tmp_path / "store"), "b" * 64
    Store(address).put_bytes(f"inputs/{revision}/chats.jsonl", b"row")
    theirs = "01234567-89ab-cdef-0123-456789abcdef"
    Store(address).put_bytes(f"runs/{theirs}/steps/train_lora.json", NOTE)
    # Its training began two days ago: the next note comes at its end.
    note = tmp_path / "store/runs" / theirs / "steps/train_lora.json"
    os.utime(note, (note.stat().st_mtime - 2 * 86400,) * 2)
    plan = make_plan(store(tmp_path), asked(run("over", "SUCCEEDED")), 0, timedelta(0), silent)
    reasons = {one.item.name: (one.goes, one.reason) for one in plan.decisions}
    why = f"run {theirs} in this store is of another Kubeflow, whose runs may read it"
    assert reasons[revision] == (False, why)
    assert f"{address}: 1 of its runs are not that Kubeflow's: another one may use this store" in plan.notes


def test_an_overlay_that_cannot_be_read_ends_it(tmp_path, models):
    with pytest.raises(RecipeError, match="has no folder pinned/"):
        planned(store(tmp_path), Sources(overlays=[tmp_path]))


def test_json_has_every_part_with_its_decision(tmp_path, models):
    plan = planned(store(tmp_path), Sources())
    document = as_json(plan, delete(store(tmp_path), Sources(), 0, MONTH, plan, silent))
    assert json.loads(json.dumps(document)) == document
    by_name = {one["name"]: one for one in document["items"]}
    assert sorted(by_name) == sorted(models)
    assert by_name[models[2]]["goes"] is False
    assert by_name[models[0]]["reason"] == "not current, not pinned, not needed by what stays"
    assert {one["name"] for one in document["outcomes"]} == set(models[:2])


def test_sizes_have_a_unit():
    assert [size(n) for n in (0, 999, 1000, 2_345_678, 5 * 10**9)] == ["0 B", "999 B", "1.0 kB", "2.3 MB", "5.0 GB"]
