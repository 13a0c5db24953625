"""schemathesis over the API's own schema: no request is a server error."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_is_a_server_error(server, mode):
    command = [sys.executable, "-m", "tests.components.model_server.call_by_schema", server, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
