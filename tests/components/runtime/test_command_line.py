"""Commands whose options are the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from components.runtime.command_line import with_options


@dataclass(frozen=True)
class Options:
    port: Annotated[int, typer.Option(envvar="TEST_PORT", min=1, help="a port")] = 80
    folder: Annotated[Path | None, typer.Option("--dir", help="a folder")] = None
    names: Annotated[list[str] | None, typer.Option(help="names")] = None


@pytest.fixture
def received() -> list[tuple[str, Options]]:
    return []


@pytest.fixture
def app(received) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @with_options(Options)
    def command(name: Annotated[str, typer.Argument(help="its name")], options: Options) -> None:
        """Do something."""
        received.append((name, options))

    return app


@pytest.mark.parametrize(
    ("arguments", "variables", "options"),
    [
        ([], {}, Options()),
        (["--port", "5", "--dir", "/a"], {}, Options(5, Path("/a"))),
        (["--names", "a", "--names", "b"], {}, Options(names=["a", "b"])),
        ([], {"TEST_PORT": "7"}, Options(7)),
        (["--port", "5"], {"TEST_PORT": "7"}, Options(5)),
    ],
)
def test_fields_are_options_with_their_defaults_and_variables(app, received, arguments, variables, options):
    done = CliRunner().invoke(app, ["x", *arguments], env=variables)
    assert done.exit_code == 0, done.output
    assert received == [("x", options)]


@pytest.mark.parametrize("arguments", [[], ["x", "--port", "0"], ["x", "--port", "a"], ["x", "--options", "a"]])
def test_wrong_usage_does_not_reach_the_command(app, received, arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert received == []


def test_help_has_the_commands_words_and_the_options(app):
    output = CliRunner().invoke(app, ["--help"]).output
    for words in ("Do something.", "its name", "a port", "--dir", "TEST_PORT"):
        assert words in output
