"""Notes on the state of each step of a run: the step writes them, ``lorry`` reads them.

Kubeflow's API stops listing the tasks of a large run, and has neither figures nor reasons of failures. On a cluster the
step gets the run's id and the store's address as variables of its pod, on this machine the folder for the notes. They
are not inputs, so other runs can reuse the step.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from components.artifacts.contracts import Contract
from components.errors import LorryError
from components.storage.store import Store

log = logging.getLogger(__name__)

RUN_VARIABLE = "LORRY_RUN_ID"
STORE_VARIABLE = "LORRY_RUN_STORE"
FOLDER_VARIABLE = "LORRY_RUN_NOTES"


NoteState = Literal["running", "finished", "failed"]


class StepNote(Contract):
    """The state of one step of a run. ``trial`` and ``fraction`` are set for a trial of a sweep and its rung."""

    schema_version: Literal[1] = 1
    step: str
    trial: str | None = None
    fraction: Annotated[float | None, Field(description="share of its steps to which the trial trains")] = None
    state: NoteState
    seconds: Annotated[float | None, Field(description="since the step began in this pod")] = None
    cpu_seconds: Annotated[
        float | None, Field(description="of its processes together; with fewer than seconds, it waited")
    ] = None
    peak_memory_bytes: Annotated[int | None, Field(description="resident memory of its largest process")] = None
    error: Annotated[str | None, Field(description="the message of an error that the user can correct")] = None
    figures: dict[str, float] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """The note's name below the run's folder."""
        parts = (self.step, self.trial, None if self.fraction is None else f"{self.fraction:.4f}")
        return "@".join(part for part in parts if part is not None) + ".json"


def folder_of(run: str) -> str:
    """The folder of a run's notes in the store."""
    return f"runs/{run}/steps"


def write_note(note: StepNote) -> None:
    """Write a note into the folder, and the store, that the environment names.

    A failure is logged and does not end the step.
    """
    if folder := os.environ.get(FOLDER_VARIABLE):
        _write_file(note, Path(folder))
    run, address = os.environ.get(RUN_VARIABLE), os.environ.get(STORE_VARIABLE)
    if not run or not address:
        return
    try:
        Store(address, create=True).put_bytes(f"{folder_of(run)}/{note.key}", note.model_dump_json().encode())
    except (LorryError, OSError) as error:
        log.warning("the state of this step cannot be written into the store: %s", error)


def _write_file(note: StepNote, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / note.key).write_text(note.model_dump_json() + "\n", encoding="utf-8")
    except OSError as error:
        log.warning("the state of this step cannot be written into %s: %s", folder, error)


def notes_in(folder: Path) -> list[StepNote]:
    """The notes in a folder of this machine, by name; those of another version are left out."""
    notes = []
    for path in sorted(folder.glob("*.json")):
        try:
            notes.append(StepNote.model_validate_json(path.read_bytes()))
        except (ValidationError, OSError):
            continue
    return notes


def read_notes(store: Store, run: str, known: Mapping[str, StepNote]) -> dict[str, StepNote]:
    """The notes of a run by key; those in ``known`` of a finished step are not read again.

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
            continue  # of another version, or being written
    return notes
