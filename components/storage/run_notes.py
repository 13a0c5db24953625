"""What a step on a cluster leaves in the store under its run, for whoever follows the run.

Kubeflow's API stops listing the tasks of a large run, and has neither figures nor reasons. Run and store reach a step
as variables of its pod, which are no inputs: a step is reused in another run all the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from components.artifacts.contracts import Contract
from components.errors import LorryError
from components.storage.store import Store

log = logging.getLogger(__name__)

RUN_VARIABLE = "LORRY_RUN_ID"
STORE_VARIABLE = "LORRY_RUN_STORE"


NoteState = Literal["running", "finished", "failed"]


class StepNote(Contract):
    """How one step of a run stands. ``trial`` and ``fraction`` are those of a sweep's trial, and its rung's."""

    schema_version: Literal[1] = 1
    step: str
    trial: str | None = None
    fraction: Annotated[float | None, Field(description="share of its steps to which the trial trains")] = None
    state: NoteState
    seconds: Annotated[float | None, Field(description="since the step began in this pod")] = None
    error: Annotated[str | None, Field(description="what the user can mend, as the step says it")] = None
    figures: dict[str, float] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """The note's name below the run's folder."""
        parts = (self.step, self.trial, None if self.fraction is None else f"{self.fraction:.4f}")
        return "@".join(part for part in parts if part is not None) + ".json"


def folder_of(run: str) -> str:
    """Where a run's notes lie in the store."""
    return f"runs/{run}/steps"


def write_note(note: StepNote) -> None:
    """Put a note into the store, where the pod says which; what cannot be written stops no step."""
    run, address = os.environ.get(RUN_VARIABLE), os.environ.get(STORE_VARIABLE)
    if not run or not address:
        return
    try:
        Store(address, create=True).put_bytes(f"{folder_of(run)}/{note.key}", note.model_dump_json().encode())
    except (LorryError, OSError) as error:
        log.warning("who follows the run will not see this: %s", error)


def read_notes(store: Store, run: str, known: Mapping[str, StepNote]) -> dict[str, StepNote]:
    """The notes of a run by their keys; those ``known`` to be of a finished step are not read again.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    notes = dict(known)
    for key in store.keys(folder_of(run)):
        name = key.rsplit("/", 1)[-1]
        if name in notes and notes[name].state == "finished":
            continue
        try:
            notes[name] = StepNote.model_validate_json(store.read(key))
        except (ValidationError, FileNotFoundError):
            continue  # another version's, or written at this moment
    return notes
