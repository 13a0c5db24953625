"""A child that ends with its parent, with real processes: a parent that is killed closes the pipe, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from components.runtime import parent_death
from components.runtime.parent_death import call_on_parent_death
from tests.conftest import ROOT

WATCHES = """
import os, signal, sys
from components.runtime.parent_death import call_on_parent_death
call_on_parent_death(lambda: os._exit(7))
print("ready", os.getpid(), flush=True)
signal.pause()
"""

# Starts the watching child, repeats its line, and waits to be killed. The child writes to the same standard output,
# which therefore ends only when both processes are gone.
STARTS_ONE = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WATCHES!r}], stdin=subprocess.PIPE, start_new_session=True)
signal.pause()
"""


def start(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    assert child.stdout.readline().startswith(b"ready")
    return child


def test_a_child_ends_when_its_pipe_is_closed_and_not_before():
    child = start(WATCHES)
    assert child.poll() is None
    assert child.stdin is not None
    child.stdin.write(b"what a parent writes by mistake does not count")
    child.stdin.flush()
    assert child.poll() is None
    child.communicate()
    assert child.returncode == 7


def test_a_child_in_a_session_of_its_own_ends_when_its_parent_is_killed():
    parent = start(STARTS_ONE)
    os.kill(parent.pid, signal.SIGKILL)
    rest, _ = parent.communicate(timeout=60)  # the end of the output comes when the child is gone too
    assert rest == b""
    assert parent.returncode == -signal.SIGKILL


def test_a_grandchild_that_inherits_the_pipe_ends_with_the_first_parent():
    inherits = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WATCHES!r}])"
    child = start(inherits)
    assert child.stdin is not None
    child.stdin.close()
    child.stdin = None
    assert child.communicate(timeout=60)[0] == b""
    assert child.returncode == 0  # it waited for the grandchild, which ended


def test_the_call_is_made_once_in_a_thread(monkeypatch):
    import threading

    reads = iter([b"x", b""])
    monkeypatch.setattr(parent_death.os, "read", lambda descriptor, size: next(reads))
    called: list[str] = []
    done = threading.Event()

    def end() -> None:
        called.append(threading.current_thread().name)
        done.set()

    call_on_parent_death(end)
    assert done.wait(timeout=60)
    assert called == ["parent-death"]
