"""Notes on the steps of a run: their keys, what is read again, and a store that cannot be written."""

from __future__ import annotations

import pytest

from components.storage.run_notes import (
    FOLDER_VARIABLE,
    RUN_VARIABLE,
    STORE_VARIABLE,
    StepNote,
    folder_of,
    notes_in,
    read_notes,
    write_note,
)
from components.storage.store import Store

RUN = "1234"


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    address = str(tmp_path / "store")
    monkeypatch.setenv(RUN_VARIABLE, RUN)
    monkeypatch.setenv(STORE_VARIABLE, address)
    return Store(address, create=True)


@pytest.mark.parametrize(
    ("note", "key"),
    [
        (StepNote(step="split_data", state="running"), "split_data.json"),
        (StepNote(step="train_trial", trial="a", state="running"), "train_trial@a.json"),
        (StepNote(step="train_trial", trial="a", fraction=1 / 3, state="running"), "train_trial@a@0.3333.json"),
        (StepNote(step="train_trial", trial="a", fraction=1, state="failed"), "train_trial@a@1.0000.json"),
    ],
)
def test_each_step_trial_and_rung_has_a_note_of_its_own(note, key):
    assert note.key == key


def test_a_note_is_read_as_it_was_written_and_a_later_one_replaces_it(store):
    note = StepNote(step="train_lora", state="running", seconds=1.5, figures={"loss": 2.0})
    write_note(note)
    assert read_notes(store, RUN, {}) == {"train_lora.json": note}
    failed = note.model_copy(update={"state": "failed", "error": "no rows"})
    write_note(failed)
    assert read_notes(store, RUN, {}) == {"train_lora.json": failed}
    assert read_notes(store, "other run", {}) == {}


def test_a_finished_note_is_not_read_again_and_a_running_one_is(store):
    running = StepNote(step="a", state="running")
    finished = StepNote(step="b", state="finished")
    for note in (running, finished):
        write_note(note)
    known = {
        running.key: running.model_copy(update={"seconds": 1}),
        finished.key: finished.model_copy(update={"seconds": 1}),
        "elsewhere.json": running,
    }
    assert read_notes(store, RUN, known) == {**known, running.key: running}


def test_notes_of_another_version_are_left_out(store):
    store.put_bytes(f"{folder_of(RUN)}/new.json", b'{"schema_version": 2, "step": "new", "state": "running"}')
    store.put_bytes(f"{folder_of(RUN)}/broken.json", b"{")
    write_note(StepNote(step="a", state="running"))
    assert list(read_notes(store, RUN, {})) == ["a.json"]


@pytest.mark.parametrize("missing", [RUN_VARIABLE, STORE_VARIABLE])
def test_without_a_run_or_a_store_nothing_is_written(store, monkeypatch, missing):
    monkeypatch.delenv(missing)
    write_note(StepNote(step="a", state="running"))
    assert store.keys("") == []


def test_a_store_that_cannot_be_written_is_a_warning(monkeypatch, caplog):
    monkeypatch.setenv(RUN_VARIABLE, RUN)
    monkeypatch.setenv(STORE_VARIABLE, "ftp://nowhere")
    write_note(StepNote(step="a", state="running"))
    (message,) = caplog.messages
    assert message.startswith("the state of this step cannot be written into the store: store 'ftp://nowhere'")


def test_on_one_machine_notes_lie_in_the_folder_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "notes"))
    note = StepNote(step="evaluate", state="finished", seconds=2.0, peak_memory_bytes=10**9)
    write_note(note)
    write_note(StepNote(step="gate", state="running"))
    (tmp_path / "notes" / "other.json").write_text('{"schema_version": 2}')
    assert notes_in(tmp_path / "notes") == [note, StepNote(step="gate", state="running")]
    assert notes_in(tmp_path / "missing") == []


def test_a_folder_that_cannot_be_written_ends_no_step(tmp_path, monkeypatch, caplog):
    (tmp_path / "notes").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "notes"))
    write_note(StepNote(step="gate", state="running"))
    assert "the state of this step cannot be written into" in caplog.text
