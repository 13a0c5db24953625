"""`lorry schedule` and `lorry schedules`: what Kubeflow gets, what is there already, and the run key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.errors import ClusterError, LorryError, RecipeError
from pipelines.cli import app
from pipelines.cluster.cron import read_cron
from pipelines.cluster.kubeflow import Kubeflow, pipeline_spec_in
from pipelines.cluster.run_facts import run_key_in
from pipelines.cluster.schedules import PlannedRuns, schedules_of, settle
from pipelines.config.pools import Placement
from pipelines.graph.finetune import compile_finetune
from tests.conftest import run_lorry
from tests.pipelines.cluster.kubeflow_stand_in import STORE, StandIn, kubeflow

KEY = "8ff321dc729a661e"
OTHER_KEY = "0f" * 8
MONDAYS = read_cron("30 2 * * 1")
ARGUMENTS = {"recipe": "tiny", "publish": {"store": STORE}}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with kubeflow(StandIn()) as server:
        yield server


def planned(key: str = KEY) -> PlannedRuns:
    """What a schedule runs; of the document no more than has the key."""
    publish = {"inputs": {"parameters": {"run": {"runtimeValue": {"constant": key}}}}}
    return PlannedRuns(
        "tiny", {"pipeline_spec": {"root": {"dag": {"tasks": {"publish-model": publish}}}}}, ARGUMENTS, key
    )


def put(
    server: StandIn, key: str = KEY, cron: str = "30 2 * * 1", *, replace: bool = False, catch_up: bool = False
) -> str:
    there = Kubeflow(server.url, None, None)
    return settle(planned(key), read_cron(cron), there, "e-1", catch_up=catch_up, replace=replace)


def lorry(server: StandIn, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["schedules", *arguments, "--endpoint", server.url])
    if isinstance(done.exception, LorryError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_schedule_runs_one_at_a_time_and_leaves_out_what_it_missed(server):
    said = put(server)
    (made,) = server.schedules
    assert said == f"scheduled: tiny at 30 2 * * 1 ({made['recurring_run_id']})"
    assert made["max_concurrency"] == "1"
    assert made["no_catchup"] is True
    assert made["mode"] == "ENABLE"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * 1"}}
    assert made["runtime_config"] == {"parameters": ARGUMENTS}
    assert (made["display_name"], made["experiment_id"]) == ("tiny", "e-1")
    server.schedules.clear()
    put(server, catch_up=True)
    assert server.schedules[0]["no_catchup"] is False


def test_an_unchanged_schedule_is_said_to_be_unchanged(server):
    put(server)
    (made,) = server.schedules
    assert (
        put(server) == f"unchanged: schedule tiny ({made['recurring_run_id']}) runs this recipe at 30 2 * * 1 already"
    )
    lorry(server, "pause", "tiny")
    assert put(server).endswith("already; it is paused, go on with: lorry schedules resume tiny")
    assert len(server.schedules) == 1


def test_another_schedule_of_the_name_stays_unless_it_is_replaced(server):
    put(server)
    (made,) = server.schedules
    with pytest.raises(ClusterError) as refused:
        put(server, cron="0 3 * * *")
    assert str(refused.value) == (
        "schedule 'tiny': runs this recipe at 30 2 * * 1, not at 0 3 * * *; put this in its place with --replace"
    )
    with pytest.raises(ClusterError, match="is there already with another state of the recipe, its inputs, or"):
        put(server, OTHER_KEY)
    assert server.schedules == [made]
    said = put(server, OTHER_KEY, "0 3 * * *", replace=True)
    assert said.endswith(f", in place of {made['recurring_run_id']}")
    assert [run_key_in(one["pipeline_spec"]) for one in server.schedules] == [OTHER_KEY]


def test_a_schedule_that_cannot_be_created_leaves_the_old_one(server, monkeypatch):
    put(server)

    def refuse(*_: Any, **__: Any) -> str:
        raise ClusterError("the database is away")

    monkeypatch.setattr(Kubeflow, "create_schedule", refuse)
    with pytest.raises(ClusterError, match="the database is away"):
        put(server, OTHER_KEY, replace=True)
    assert [run_key_in(one["pipeline_spec"]) for one in server.schedules] == [KEY]


def test_an_old_schedule_that_was_not_deleted_is_named_and_deleted_the_next_time(server, monkeypatch):
    put(server)
    (old,) = server.schedules
    delete = Kubeflow.change_schedule

    def refuse(*_: Any) -> None:
        raise ClusterError("the database is away")

    monkeypatch.setattr(Kubeflow, "change_schedule", refuse)
    with pytest.raises(ClusterError) as refused:
        put(server, OTHER_KEY, replace=True)
    new = server.schedules[1]["recurring_run_id"]
    assert str(refused.value) == (
        f"schedule 'tiny': {new} is there, and {old['recurring_run_id']} was not deleted (the database is away); both "
        f"start runs until it is: lorry schedules delete {old['recurring_run_id']}"
    )
    monkeypatch.setattr(Kubeflow, "change_schedule", delete)
    with pytest.raises(ClusterError, match=r"another state of the recipe.*; put this in its place with --replace"):
        put(server, OTHER_KEY)
    assert put(server, OTHER_KEY, replace=True) == (
        f"unchanged: schedule tiny ({new}) runs this recipe at 30 2 * * 1 already; deleted: "
        f"{old['recurring_run_id']}, which had the same name"
    )
    assert [one["recurring_run_id"] for one in server.schedules] == [new]


def test_schedules_are_listed_paused_resumed_and_deleted(server):
    assert lorry(server, "list").startswith("no schedules; make one: lorry schedule RECIPE --cron")
    put(server)
    server.schedules.append({"recurring_run_id": "another-pipelines", "display_name": "hello", "status": "ENABLED"})
    schedule_id = server.schedules[0]["recurring_run_id"]
    _, row = lorry(server, "list").splitlines()
    assert re.fullmatch(rf"tiny +active +30 2 \* \* 1 +\d{{4}}-\d\d-\d\d 02:30 +{schedule_id}", row)
    (listed,) = json.loads(lorry(server, "list", "--json"))
    assert {key: listed[key] for key in ("name", "schedule_id", "cron", "is_paused", "run_key")} == {
        "name": "tiny",
        "schedule_id": schedule_id,
        "cron": "30 2 * * 1",
        "is_paused": False,
        "run_key": KEY,
    }
    assert [time[10:] for time in listed["next"]] == ["T02:30:00+00:00"] * 3
    assert lorry(server, "pause", "tiny") == "paused: tiny; go on with: lorry schedules resume tiny\n"
    assert json.loads(lorry(server, "list", "--json"))[0]["next"] == []
    assert lorry(server, "resume", schedule_id).startswith("resumed: tiny; next (UTC): ")
    assert lorry(server, "delete", "tiny") == f"deleted: tiny ({schedule_id}); its runs stay: lorry runs list\n"
    assert server.changed == [(schedule_id, "disable"), (schedule_id, "enable"), (schedule_id, "delete")]


def test_a_name_that_no_schedule_or_several_have_is_refused(server):
    with pytest.raises(ClusterError) as refused:
        lorry(server, "delete", "tiny")
    assert str(refused.value) == f"schedule 'tiny': {server.url} has no such schedule; it has: none"
    put(server)
    server.schedules.append({**server.schedules[0], "recurring_run_id": "second"})
    with pytest.raises(ClusterError, match=r"2 have this name; give the id of one: b193.*, second$"):
        lorry(server, "delete", "tiny")
    assert len(server.schedules) == 2


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "every monday"])
def test_a_cron_line_that_cannot_be_used_ends_before_anything_is_asked(cron, tmp_path):
    nowhere = ["--endpoint", "http://127.0.0.1:9", "--cron", cron]
    done = CliRunner().invoke(app, ["schedule", str(tmp_path / "none.yaml"), *nowhere])
    assert isinstance(done.exception, RecipeError)
    assert str(done.exception).startswith(f"--cron {cron!r}: ")


def test_a_sweep_is_no_recipe_for_a_schedule(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("recipe: demo.yaml\ntrials: []\n")
    nowhere = ["--endpoint", "http://127.0.0.1:9", "--cron", "0 0 * * *"]
    done = CliRunner().invoke(app, ["schedule", str(path), *nowhere])
    assert str(done.exception) == f"{path}: is a sweep; a schedule takes a recipe, such as a sweep's best"


def test_with_a_run_key_publishing_is_reused_and_its_figures_are_kept_under_the_key(tmp_path):
    publishing = {}
    for key in (KEY, None):
        document = tmp_path / f"{key}.yaml"
        compile_finetune(document, Placement(), store=STORE, run_key=key)
        spec = pipeline_spec_in(document)
        assert run_key_in(spec) == key
        publishing[key] = spec["pipeline_spec"]["root"]["dag"]["tasks"]["publish-model"]["cachingOptions"]
    assert publishing == {KEY: {"enableCache": True}, None: {}}


def test_a_recipe_is_scheduled_with_its_pins_and_a_key_of_this_cluster(recipe: Path, bucket, server):
    at = ["--endpoint", server.url, "--workdir", recipe.parent / "work"]
    first = run_lorry("schedule", recipe, "--cron", "30 2 * * 1", *at)
    assert first.returncode == 0, first.stderr
    (made,) = server.schedules
    (listed,) = schedules_of(Kubeflow(server.url, None, None))
    assert made["runtime_config"]["parameters"]["split"]["data"].startswith(f"{STORE}/inputs/")
    assert re.search(r"^next \(UTC\): (\d{4}-\d\d-\d\d 02:30(, )?){3}$", first.stdout, re.MULTILINE)
    assert re.search(r"takes the inputs as they are now \(base_model \w{12}, split.data \w{12}\)", first.stdout)
    assert "the same command with --replace takes them anew" in first.stdout
    again = run_lorry("schedule", recipe, "--cron", "30 2 * * 1", *at)
    assert f"unchanged: schedule {made['display_name']} ({listed.schedule_id}) runs this recipe" in again.stdout
    # Another cluster has another experiment.
    server.experiments = [{"experiment_id": "of-another-cluster", "display_name": "lorry"}]
    elsewhere = run_lorry("schedule", recipe, "--cron", "30 2 * * 1", *at)
    assert "is there already with another state of the recipe" in elsewhere.stderr
