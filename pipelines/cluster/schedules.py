"""Schedules: Kubeflow's recurring runs of a recipe, as it was resolved when the schedule was made."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import kfp_server_api

from components.errors import ClusterError
from pipelines.cluster.cron import Cron, cron_of_kubeflow
from pipelines.cluster.kubeflow import Kubeflow, pipeline_spec_in
from pipelines.cluster.run_facts import run_key_in
from pipelines.cluster.submit import compile_for
from pipelines.cluster.upload import upload_inputs
from pipelines.config.pools import Placement
from pipelines.resolve.resolved_recipe import ResolvedRecipe

# Stands for the run key while the document is hashed.
NO_KEY = "0" * 16


@dataclass(frozen=True)
class Schedule:
    """A recurring run that Lorry created."""

    name: str
    schedule_id: str
    cron: str
    is_paused: bool
    run_key: str

    @property
    def when(self) -> Cron | None:
        """Its cron line as a person writes it."""
        return cron_of_kubeflow(self.cron)

    def cells(self, now: datetime) -> list[str]:
        """The schedule as a line of a table."""
        line = self.when.line if self.when else self.cron
        following = "" if self.is_paused else ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in self._next(now, 1))
        return [self.name, "paused" if self.is_paused else "active", line, following, self.schedule_id]

    def as_json(self, now: datetime) -> dict[str, Any]:
        """The schedule as JSON has it, with its next three times."""
        following = [] if self.is_paused else [time.isoformat() for time in self._next(now, 3)]
        line = self.when.line if self.when else self.cron
        return {**asdict(self), "cron": line, "next": following}

    def _next(self, now: datetime, n: int) -> list[datetime]:
        return self.when.times(n, now) if self.when else []


@dataclass(frozen=True)
class PlannedRuns:
    """What a schedule starts: a pipeline document, its parameters, and their key."""

    name: str
    spec: dict[str, Any]
    arguments: dict[str, Any]
    run_key: str


def plan(
    recipe: ResolvedRecipe,
    placement: Placement,
    kubeflow: Kubeflow,
    experiment_id: str,
    report: Callable[[str], None],
    no_reuse: Collection[str] = (),
) -> PlannedRuns:
    """Upload the recipe's inputs and compile it with its run key.

    The key is a digest of the document, its parameters and the experiment, whose id no other cluster has: two clusters
    that share a store do not take each other's figures for their own.

    Raises:
        RecipeError: the recipe names no store that pods reach.
        StoreError: the store refuses or does not answer.
    """
    from pipelines.graph.placement import CHECKPOINTS

    there = upload_inputs(recipe, kubeflow.namespace or "kubeflow", report)
    arguments = there.arguments(CHECKPOINTS)
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "finetune.yaml"
        compile_for(there, placement, document, no_reuse, NO_KEY)
        key = _digest(document.read_bytes(), json.dumps(arguments, sort_keys=True).encode(), experiment_id.encode())
        compile_for(there, placement, document, no_reuse, key)
        return PlannedRuns(recipe.name, pipeline_spec_in(document), arguments, key)


def settle(
    planned: PlannedRuns, cron: Cron, kubeflow: Kubeflow, experiment_id: str, *, catch_up: bool, replace: bool
) -> str:
    """Create the schedule unless there is one that does the same already; give a line that says which.

    With ``replace`` the other schedules of this name are deleted when the one that is wanted is there.

    Raises:
        ClusterError: there is such a schedule, and ``replace`` is not set; the endpoint does not answer, or refuses.
    """
    old = [one for one in schedules_of(kubeflow) if one.name == planned.name]
    same = next((one for one in old if one.run_key == planned.run_key and one.cron == cron.of_kubeflow), None)
    others = [one for one in old if one is not same]
    if others and not replace:
        raise ClusterError(
            f"schedule {planned.name!r}: {_difference(others[0], planned, cron)}; put this in its place with --replace"
        )
    schedule_id = same.schedule_id if same else _create(planned, cron, kubeflow, experiment_id, catch_up=catch_up)
    for one in others:
        _delete(kubeflow, one, schedule_id)
    ids = ", ".join(one.schedule_id for one in others)
    if same is None:
        instead = f", in place of {ids}" if others else ""
        return f"scheduled: {planned.name} at {cron.line} ({schedule_id}){instead}"
    deleted = f"; deleted: {ids}, which had the same name" if others else ""
    paused = f"; it is paused, go on with: lorry schedules resume {same.name}"
    return (
        f"unchanged: schedule {same.name} ({schedule_id}) runs this recipe at {cron.line} already{deleted}"
        f"{paused if same.is_paused else ''}"
    )


def _delete(kubeflow: Kubeflow, old: Schedule, schedule_id: str) -> None:
    """Delete a schedule in whose place another stands.

    Raises:
        ClusterError: the endpoint does not answer, or refuses; until it is deleted, both start runs.
    """
    try:
        kubeflow.change_schedule(old.schedule_id, "delete")
    except ClusterError as error:
        raise ClusterError(
            f"schedule {old.name!r}: {schedule_id} is there, and {old.schedule_id} was not deleted ({error}); both "
            f"start runs until it is: lorry schedules delete {old.schedule_id}"
        ) from error


def _difference(old: Schedule, planned: PlannedRuns, cron: Cron) -> str:
    if old.run_key == planned.run_key:
        return f"runs this recipe at {old.when.line if old.when else old.cron}, not at {cron.line}"
    return "is there already with another state of the recipe, its inputs, or Lorry's steps"


def _create(planned: PlannedRuns, cron: Cron, kubeflow: Kubeflow, experiment_id: str, *, catch_up: bool) -> str:
    """Create the recurring run; give its id.

    Raises:
        ClusterError: the endpoint does not answer, or refuses.
    """
    return kubeflow.create_schedule(
        display_name=planned.name,
        experiment_id=experiment_id,
        pipeline_spec=planned.spec,
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=planned.arguments),
        trigger=kfp_server_api.V2beta1Trigger(
            cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=cron.of_kubeflow),
        ),
        max_concurrency="1",
        mode="ENABLE",
        no_catchup=not catch_up,
    )


def schedules_of(kubeflow: Kubeflow) -> list[Schedule]:
    """The recurring runs that Lorry created, oldest first.

    Raises:
        ClusterError: the endpoint does not answer, or refuses.
    """
    return [one for answer in kubeflow.schedules() if (one := _schedule(answer)) is not None]


def find(kubeflow: Kubeflow, given: str) -> Schedule:
    """The schedule of a name or an id.

    Raises:
        ClusterError: there is none, or several have the name; the endpoint does not answer, or refuses.
    """
    known = schedules_of(kubeflow)
    found = [one for one in known if given in (one.name, one.schedule_id)]
    if not found:
        names = ", ".join(sorted({one.name for one in known})) or "none"
        raise ClusterError(f"schedule {given!r}: {kubeflow.endpoint} has no such schedule; it has: {names}")
    if len(found) > 1:
        ids = ", ".join(one.schedule_id for one in found)
        raise ClusterError(f"schedule {given!r}: {len(found)} have this name; give the id of one: {ids}")
    return found[0]


def change(kubeflow: Kubeflow, given: str, how: Literal["enable", "disable", "delete"]) -> Schedule:
    """Resume, pause or delete a schedule; give it as it was before.

    Raises:
        ClusterError: there is no such schedule; the endpoint does not answer, or refuses.
    """
    schedule = find(kubeflow, given)
    kubeflow.change_schedule(schedule.schedule_id, how)
    return schedule


def _schedule(answer: Any) -> Schedule | None:
    key = run_key_in(answer.pipeline_spec) if isinstance(answer.pipeline_spec, Mapping) else None
    given = answer.trigger.cron_schedule if answer.trigger else None
    if key is None or given is None:
        return None
    return Schedule(
        name=str(answer.display_name),
        schedule_id=answer.recurring_run_id,
        cron=str(given.cron),
        is_paused=answer.status == "DISABLED",
        run_key=key,
    )


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]
