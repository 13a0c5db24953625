"""Runs on a Kubeflow endpoint: a list of them, which one a user means, its end by hand, its retry."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from components.errors import ClusterError, LorryError
from components.storage.run_notes import folder_of
from components.storage.store import Store, in_bucket
from pipelines.cluster.follow import ENDED
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.cluster.run_facts import RunFacts

LATEST = "latest"
# `latest` is looked for among as many runs, for other pipelines may run on the same Kubeflow.
N_NEWEST = 20
N_NAMED = 5
# An id is a UUID, of which a user may give the beginning.
_ID = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")


@dataclass(frozen=True)
class ListedRun:
    """One line of the list of runs; ``recipe`` is None where another pipeline ran."""

    name: str
    state: str
    created: datetime | None
    minutes: float | None
    recipe: str | None
    run_id: str
    schedule_id: str | None

    @property
    def cells(self) -> list[str]:
        """The line as a table has it."""
        created = self.created.strftime("%Y-%m-%d %H:%M") if self.created else ""
        minutes = "" if self.minutes is None else f"{self.minutes:.1f}"
        return [self.name, self.state.lower(), created, minutes, self.recipe or "-", self.run_id]

    def as_json(self) -> dict[str, Any]:
        """The line as JSON has it."""
        return {**asdict(self), "created": self.created.isoformat() if self.created else None}


def list_runs(kubeflow: Kubeflow, limit: int, experiment: str | None) -> list[ListedRun]:
    """The newest ``limit`` runs, of an experiment where one is named, newest first.

    Raises:
        ClusterError: there is no such experiment; the endpoint does not answer, or refuses.
    """
    experiment_id = None
    if experiment is not None and (experiment_id := kubeflow.find_experiment(experiment)) is None:
        raise ClusterError(
            f"--experiment {experiment}: {kubeflow.endpoint} has no such experiment; leave it out to see all"
        )
    now = datetime.now(UTC)
    return [_listed(run, now) for run in kubeflow.runs(limit, experiment_id=experiment_id)]


def find_run(kubeflow: Kubeflow, given: str, store: str | None = None) -> str:
    """The id of the run that ``given`` means: an id, the beginning of one run's, or ``latest``.

    ``store`` is where facts of a run may lie that this Kubeflow does not know.

    Raises:
        ClusterError: no run or several are meant; the endpoint does not answer, or refuses.
    """
    if given == LATEST:
        return _latest(kubeflow)
    wanted = given.lower()
    if not _ID.fullmatch(wanted):
        raise ClusterError(f"RUN {given!r}: not a run's id, the beginning of one, or {LATEST}; ids: {_list(kubeflow)}")
    runs = [run for run in kubeflow.runs(N_NEWEST, with_id=wanted) if run.run_id.startswith(wanted)]
    if not runs:
        elsewhere = _written_by_another(store, wanted)
        raise ClusterError(
            f"RUN {given}: {kubeflow.endpoint} has no such run{elsewhere or f'; it has: {_list(kubeflow)}'}"
        )
    if len(runs) > 1:
        named = ", ".join(f"{run.run_id} ({run.display_name})" for run in runs[:N_NAMED])
        raise ClusterError(f"RUN {given}: {len(runs)} runs begin so; give more of the id: {named}")
    return str(runs[0].run_id)


def cancel(kubeflow: Kubeflow, run_id: str) -> None:
    """End a run; training writes a checkpoint first.

    Raises:
        ClusterError: it has ended; the endpoint does not answer, or refuses.
    """
    state = _facts(kubeflow, run_id).state
    if state in ENDED:
        raise ClusterError(f"run {run_id}: has ended already, as {state}")
    kubeflow.terminate(run_id)


def retry(kubeflow: Kubeflow, run_id: str) -> None:
    """Start a run that failed or was canceled again, from the steps that did not finish.

    Raises:
        ClusterError: it did not fail; the endpoint does not answer, or refuses.
    """
    state = _facts(kubeflow, run_id).state
    if state not in ("FAILED", "CANCELED"):
        way = "submit its recipe again" if state in ENDED else f"end it first: lorry runs cancel {run_id}"
        if state == "CANCELING":
            way = f"wait until it has ended: lorry runs follow {run_id}"
        raise ClusterError(f"run {run_id}: is {state}; only a run that failed or was canceled is tried again; {way}")
    kubeflow.retry(run_id)


def _facts(kubeflow: Kubeflow, run_id: str) -> RunFacts:
    return RunFacts(kubeflow.run(run_id), {})


def _latest(kubeflow: Kubeflow) -> str:
    for run in kubeflow.runs(N_NEWEST):
        if RunFacts(run, {}).is_lorrys:
            return str(run.run_id)
    raise ClusterError(
        f"RUN {LATEST}: none of the newest {N_NEWEST} runs of {kubeflow.endpoint} is Lorry's; start one: lorry submit"
    )


def _written_by_another(store: str | None, run_id: str) -> str:
    """What to say of a run that is not this Kubeflow's, where the store has notes of it."""
    if store is None or not in_bucket(store):
        return ""
    try:
        keys = list(Store(store, short_timeouts=True).keys(folder_of(run_id)))
    except LorryError:
        return ""
    if not keys:
        return ""
    return f"; the store {store} has notes of it: a cluster that shares the store ran it; give that one's --endpoint"


def _listed(run: Any, now: datetime) -> ListedRun:
    facts = RunFacts(run, {})
    ended = run.finished_at if run.state in ENDED else now
    seconds = (ended - run.created_at).total_seconds() if ended and run.created_at else None
    return ListedRun(
        name=facts.name,
        state="CANCELED" if facts.is_canceled and run.state in ENDED else str(run.state),
        created=run.created_at,
        minutes=None if seconds is None or seconds < 0 else round(seconds / 60, 1),
        recipe=facts.recipe,
        run_id=str(run.run_id),
        schedule_id=run.recurring_run_id,
    )


def _list(kubeflow: Kubeflow) -> str:
    return f"lorry runs list --endpoint {kubeflow.endpoint}"
