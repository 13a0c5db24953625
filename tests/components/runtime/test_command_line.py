"""How a command ends: exit codes, one line for a user's mistake, a traceback for a bug, and with its parent."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import pytest
import typer

from components.errors import DataError
from components.runtime import command_line
from components.runtime.command_line import run_app, run_command
from components.runtime.parent_death import END_WITH_STDIN
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """Commands set the level of the root logger."""
    monkeypatch.delenv(END_WITH_STDIN, raising=False)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def run(monkeypatch: pytest.MonkeyPatch, command, *arguments: str) -> int | str | None:
    """The exit code, or the text that Python prints before it exits with 1."""
    monkeypatch.setattr(sys, "argv", ["lorry", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_command(command)
    return caught.value.code


def test_a_command_that_returns_ends_with_0(monkeypatch):
    seen = []

    def command(name: str, number: int = 1) -> None:
        seen.append((name, number))

    assert run(monkeypatch, command, "a", "--number", "2") == 0
    assert seen == [("a", 2)]


def test_a_mistake_of_the_user_is_one_line_each(monkeypatch):
    def command() -> None:
        raise DataError("line 7: no messages\nline 9: not JSON")

    assert run(monkeypatch, command) == "error: line 7: no messages\nerror: line 9: not JSON"


def test_ctrl_c_ends_with_130(monkeypatch):
    def command() -> None:
        raise KeyboardInterrupt

    assert run(monkeypatch, command) == 130


def test_wrong_usage_ends_with_2(monkeypatch, capsys):
    assert run(monkeypatch, lambda: None, "--unknown") == 2
    assert "No such option" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch):
    def command() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys, "argv", ["lorry"])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_command(command)


def test_an_app_of_several_commands_runs_the_named_one(monkeypatch):
    app, seen = typer.Typer(), []
    for name in ("one", "two"):
        app.command(name)(lambda name=name: seen.append(name))
    monkeypatch.setattr(sys, "argv", ["lorry", "two"])
    with pytest.raises(SystemExit):
        run_app(app)
    assert seen == ["two"]


def test_requests_of_http_clients_are_not_logged(monkeypatch):
    run(monkeypatch, lambda: None)
    assert logging.getLogger("httpx").level == logging.WARNING


def test_the_parent_is_watched_only_where_it_asks_for_it(monkeypatch):
    watched: list[object] = []
    monkeypatch.setattr(command_line, "call_on_parent_death", watched.append)
    run(monkeypatch, lambda: None)
    assert watched == []
    monkeypatch.setenv(END_WITH_STDIN, "1")
    run(monkeypatch, lambda: None)
    assert len(watched) == 1


def test_a_command_whose_parent_is_gone_gets_sigterm():
    code = (
        "import signal; from components.runtime.command_line import run_command\n"
        "def command():\n    print('ready', flush=True)\n    signal.pause()\nrun_command(command)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={END_WITH_STDIN: "1"}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGTERM
