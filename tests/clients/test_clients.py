"""The packages that people use, in their own environment (`.venv/clients`), against running servers with a real model.

Each script ``with_CLIENT`` holds the checks of one client and runs once; each of its checks is a test here.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.clients.conftest import CLIENTS, environment

HERE = Path(__file__).parent
Results = dict[str, str]
MOST_SECONDS = 240


def commands() -> dict[str, list[str]]:
    """How each client's script is run, by its name."""
    python = str(CLIENTS / "bin" / "python")
    scripts = {path.stem.removeprefix("with_"): [python, str(path)] for path in sorted(HERE.glob("with_*.py"))}
    # The clients' environment has openai 2, which llama-index wants; Lorry's own has openai 3.
    scripts["openai-3"] = [sys.executable, str(HERE / "with_openai.py")]
    in_node = {
        f"{path.stem.removeprefix('with_')}-node": ["node", str(path)] for path in sorted(HERE.glob("with_*.cjs"))
    }
    return {**scripts, **in_node}


def checks_in(script: Path) -> list[str]:
    """The names of a script's checks, read without running it: here its packages cannot be imported."""
    text = script.read_text(encoding="utf-8")
    if script.suffix == ".cjs":
        return re.findall(r"^  async (\w+)\(\) \{$", text, re.MULTILINE)
    return [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "check" for mark in node.decorator_list)
    ]


CHECKS = [(client, check) for client, (_, script) in commands().items() for check in checks_in(Path(script))]


@pytest.fixture(scope="module")
def results_of(plain_server: str, tools_server: str) -> Callable[[str], Results]:
    """The failure of each check of a client's script; an empty text where it passed."""

    @cache
    def run(client: str) -> Results:
        command = commands()[client]
        if command[0] == "node":
            require_node()
        assert CLIENTS.is_dir(), f"no {CLIENTS}; run: make .venv/clients/made"
        given = environment(plain_server, tools_server)
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=given) as script:
            try:
                printed, errors = script.communicate(timeout=MOST_SECONDS)
            except subprocess.TimeoutExpired:
                script.kill()
                printed, errors = script.communicate()
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"check"')]
        found = {line["check"]: line["detail"] for line in lines}
        found["*"] = f"the script did not reach this check: {printed[-1000:]}{errors[-3000:]}"
        return found

    return run


def require_node() -> None:
    """Skip where there is no npm, which brings the packages; where there is, they must be there."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine: the clients for Node are not tried")
    assert (CLIENTS / "node_modules" / "openai").is_dir(), (
        "npm is there, its packages are not: make -B .venv/clients/made"
    )


@pytest.mark.parametrize(("client", "check"), CHECKS)
def test_a_client_gets_what_it_asks_for(results_of: Callable[[str], Results], client: str, check: str):
    results = results_of(client)
    detail = results.get(check, results["*"])
    assert not detail, detail
