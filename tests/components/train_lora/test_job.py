"""The files and exit codes by which a training process reports to the one that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from components import errors
from components.errors import DataError, InterruptedTrainingError, LorryError, OutOfMemoryError, StepFailedError
from components.train_lora.job import (
    JOB,
    STARTED,
    TRACEBACK_ABOVE,
    exit_signal,
    forwarding_sigterm,
    interrupted,
    raise_reported_error,
    read_error,
    write_error,
    write_started,
)

WAITS = "import signal; print('ready', flush=True); signal.pause()"


@pytest.mark.parametrize(
    ("code", "number"), [(-9, 9), (137, 9), (143, 15), (-15, 15), (1, None), (0, None), (255, None), (128, None)]
)
def test_an_exit_code_tells_the_signal(code, number):
    assert exit_signal(code) == number


@pytest.mark.parametrize("error", [DataError("no rows"), OutOfMemoryError("set max_length 4"), LorryError("limit")])
def test_an_error_of_lorry_comes_back_as_the_same_class_with_the_same_message(error, tmp_path):
    job = tmp_path / JOB
    write_error(job, 0, error)
    found = read_error(job)
    assert (type(found), str(found)) == (type(error), str(error))


def test_every_class_of_errors_survives_the_way_through_the_file(tmp_path):
    job = tmp_path / JOB
    for kind in vars(errors).values():
        if isinstance(kind, type) and kind is not errors.RequestError:  # a server's
            write_error(job, 0, kind("the message"))
            assert type(read_error(job)) is kind


def test_a_bug_comes_back_as_a_failed_step_that_points_to_the_traceback(tmp_path):
    job = tmp_path / JOB
    write_error(job, 0, ZeroDivisionError("division by zero"))
    found = read_error(job)
    assert isinstance(found, StepFailedError)
    assert str(found) == f"ZeroDivisionError: division by zero; {TRACEBACK_ABOVE}"


def test_a_name_of_the_errors_module_that_is_no_error_of_lorry_is_a_failed_step(tmp_path):
    (tmp_path / "error.0").write_text(json.dumps({"kind": "Exception", "message": "m"}))
    assert isinstance(read_error(tmp_path / JOB), StepFailedError)


def test_of_several_processes_the_first_error_counts(tmp_path):
    job = tmp_path / JOB
    write_error(job, 0, LorryError("connection closed by peer"))
    write_error(job, 1, DataError("the cause"))
    os.utime(tmp_path / "error.0", ns=(2_000_000_000, 2_000_000_000))
    os.utime(tmp_path / "error.1", ns=(1_000_000_000, 1_000_000_000))
    assert str(read_error(job)) == "the cause"


def test_without_a_word_there_is_no_error_and_nothing_is_raised(tmp_path):
    assert read_error(tmp_path / JOB) is None
    raise_reported_error(tmp_path / JOB, stopped=False)


def test_a_stop_is_an_interruption_whatever_error_it_caused(tmp_path):
    with pytest.raises(InterruptedTrainingError, match="training was stopped; run the same command again"):
        raise_reported_error(tmp_path / JOB, stopped=True)
    write_error(tmp_path / JOB, 0, StepFailedError("a library failed at the signal"))
    with pytest.raises(InterruptedTrainingError, match="training was stopped; run"):
        raise_reported_error(tmp_path / JOB, stopped=True)
    write_error(tmp_path / JOB, 0, interrupted(3, 9))
    with pytest.raises(InterruptedTrainingError, match="at step 3 of 9"):
        raise_reported_error(tmp_path / JOB, stopped=True)


def test_an_interruption_says_where_it_was_and_whether_there_is_a_checkpoint():
    assert str(interrupted()) == "training was stopped; run the same command again to go on"
    assert "at step 0 of 6, before the first was done" in str(interrupted(0, 6))
    assert "checkpoint" not in str(interrupted(0, 6))
    assert "at step 2 of 6; its checkpoint is written" in str(interrupted(2, 6))


def test_a_run_that_begins_is_on_disk_at_once_and_whole(tmp_path):
    write_started(tmp_path, tmp_path / "root" / "key", {"seed": 3})
    assert json.loads((tmp_path / STARTED).read_text()) == {
        "run_dir": str(tmp_path / "root" / "key"),
        "known": {"seed": 3},
    }
    assert [path.name for path in tmp_path.iterdir()] == [STARTED]


def child() -> subprocess.Popen[bytes]:
    made = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert made.stdout is not None
    assert made.stdout.readline() == b"ready\n"
    return made


def test_sigterm_is_forwarded_and_noted():
    previous = signal.getsignal(signal.SIGTERM)
    with child() as waiting, forwarding_sigterm(waiting) as (same, stopped):
        assert (same, stopped) == (waiting, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert waiting.wait(timeout=60) == -signal.SIGTERM
        assert stopped == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is previous


def test_an_error_in_the_context_kills_the_child_and_closes_its_pipe():
    with child() as waiting:
        with pytest.raises(KeyError), forwarding_sigterm(waiting):
            raise KeyError
        assert waiting.wait(timeout=60) == -signal.SIGKILL
        assert waiting.stdin is not None
        assert waiting.stdin.closed
