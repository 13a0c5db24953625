"""Mistakes on the command line are one line that says what to do."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.chat import command, serve
from components.chat.serve import PageOptions
from components.errors import BusyError, DataError
from tests.conftest import run_lorry


@pytest.fixture
def served(monkeypatch) -> list[PageOptions]:
    """The options with which the page would be served."""
    options: list[PageOptions] = []

    @contextmanager
    def listen(*_: object):
        with socket.socket() as bound:
            yield bound

    monkeypatch.setattr(command, "listen", listen)
    monkeypatch.setattr(serve, "serve_page", lambda page_options, *_: options.append(page_options))
    return options


def test_defaults_are_a_local_server_and_the_models_own_examples(served):
    command.chat()
    assert served == [
        PageOptions(["http://127.0.0.1:8080/v1"], "Lorry chat", Path(".lorry/chat"), [], None, None, ""),
    ]


def test_options_come_from_the_environment(served):
    import typer

    app = typer.Typer()
    app.command()(command.chat)
    environment = {
        "LORRY_CHAT_SERVER": "a=http://a/v1 http://b/v1", "LORRY_CHAT_EXAMPLES": "One?| |Two?",
        "LORRY_CHAT_USER_HEADER": "X-Forwarded-User", "LORRY_CHAT_ROOT_PATH": "/lorry", "LORRY_CHAT_DATA_DIR": "/data",
        "LORRY_CHAT_TITLE": "Ours",
    }  # fmt: skip
    result = CliRunner().invoke(app, [], env=environment)
    assert result.exit_code == 0, result.output
    assert served == [
        PageOptions(["a=http://a/v1", "http://b/v1"], "Ours", Path("/data"), ["One?", "Two?"], None,
                    "X-Forwarded-User", "/lorry"),
    ]  # fmt: skip


def test_two_ways_to_know_a_user_are_refused(served):
    with pytest.raises(DataError, match="--users-file and --user-header are two ways to know a user; choose one"):
        command.chat(users_file=Path("x"), user_header="y")
    assert served == []


def test_a_port_that_is_taken_is_refused_before_the_page_is_built():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match="choose another port with --port"):
            command.chat(port=port)


def test_a_mistake_is_printed_as_one_line(tmp_path):
    done = run_lorry("chat", "--users-file", "x", "--user-header", "y")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("choose one")
    done = run_lorry("feedback", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "name its folder with --data-dir" in done.stderr
