"""Starting the server: its options, and what is checked before a model is loaded."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from fastapi import FastAPI
from typer.testing import CliRunner

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import BusyError, LorryError, ModelError
from components.gguf.file import model_in, read_manifest
from components.gguf.kernels import SPIN_COUNT, SPIN_VARIABLE
from components.model_server.command import (
    engine_settings,
    read_template,
    require_digest,
    run_server,
    serve,
    uvicorn_config,
)
from components.model_server.options import ServeOptions
from components.runtime.sockets import listen
from tests.components.publish_model.models import write_model
from tests.conftest import free_port

MISSING = Path("not-there.gguf")
PLAIN = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch) -> Iterator[None]:
    """Starting a server sets a signal's handler and a variable of the process."""
    monkeypatch.setenv(SPIN_VARIABLE, SPIN_COUNT)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("template", [PLAIN, f"\ufeff{PLAIN}"], ids=["plain", "with a byte order mark"])
def test_a_template_that_renders_a_conversation_is_read(tmp_path, template):
    path = tmp_path / "plain.jinja"
    path.write_text(template, encoding="utf-8")
    assert read_template(path) == PLAIN


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        (None, ["cannot be read", "give a file in Jinja"]),
        (b"\xff\xfe\x00", ["cannot be read", "utf-8"]),
        ("{% for %}", ["line 1", "correct it"]),
        ("a\n{{ nothing( }}", ["line 2", "correct it"]),
        ("{{ 1/0 }}", ["division by zero", "correct it"]),
        ("{{ raise_exception('no users') }}", ["no users"]),
        ("", ["nothing of the messages"]),
        ("hello", ["nothing of the messages"]),
    ],
)
def test_a_template_that_renders_no_conversation_is_refused(tmp_path, template, facts):
    path = tmp_path / "bad.jinja"
    if template is not None:
        path.write_bytes(template if isinstance(template, bytes) else template.encode())
    with pytest.raises(ModelError) as refused:
        read_template(path)
    for fact in (str(path), *facts):
        assert fact in str(refused.value)


@pytest.mark.parametrize("origin", ["*", "http://localhost:5173", "https://a.example"])
def test_an_origin_as_browsers_send_it_is_accepted(origin):
    assert ServeOptions(cors_origin=[origin]).cors_origins == [origin]


@pytest.mark.parametrize("origin", ["localhost:5173", "http://a/b", "ftp://a", "http://a b", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(LorryError) as refused:
        _ = ServeOptions(cors_origin=["*", origin]).cors_origins
    assert f"--cors-origin {origin}:" in str(refused.value)
    assert "http://localhost:5173" in str(refused.value)


def test_without_origins_there_are_none():
    assert ServeOptions().cors_origins == []


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"cors_origin": ["a"]}, "--cors-origin a"),
        ({"chat_template": MISSING}, "the chat template cannot be read"),
        ({"api_keys_file": MISSING}, "the API keys cannot be read"),
    ],
)
def test_options_are_checked_before_a_model_is_loaded(options, fact):
    with pytest.raises(LorryError, match=fact):
        run_server(MISSING, ServeOptions(port=free_port(), **options))


def test_a_port_in_use_is_known_before_a_model_is_loaded():
    port = free_port()
    with listen("127.0.0.1", port, "--port"), pytest.raises(BusyError, match="--port"):
        run_server(MISSING, ServeOptions(port=port))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        run_server(tmp_path, ServeOptions(port=free_port()))


def test_another_file_than_the_pinned_one_is_refused(tmp_path):
    """An image may hold any file, with a model.json that agrees with it."""
    folder = write_model(tmp_path, b"GGUF")
    path, pinned = model_in(folder), "ab" * 32
    manifest = read_manifest(path)
    assert manifest is not None
    with pytest.raises(ModelError) as refused:
        run_server(folder, ServeOptions(port=free_port(), model_sha256=pinned))
    problem = f"{path}: its sha256 is {manifest.sha256}, not {pinned} as pinned; push and pin the model again"
    assert str(refused.value) == problem
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(ModelError) as refused:
        require_digest(path, pinned)
    assert str(refused.value) == problem
    require_digest(path, manifest.sha256)


def test_the_server_logs_by_itself_and_keeps_connections_longer_than_its_clients():
    config = uvicorn_config(FastAPI())
    assert (config.access_log, config.log_config) == (False, None)
    assert config.timeout_keep_alive > 600


def test_the_engine_gets_bytes_and_the_number_of_keys():
    options = ServeOptions(max_waiting=3, max_seconds=4, itl_seconds=0.5, prefix_cache_mb=2)
    settings = engine_settings(options, n_keys=6)
    assert (settings.max_waiting, settings.max_seconds, settings.itl_seconds) == (3, 4, 0.5)
    assert (settings.prefix_cache_bytes, settings.n_keys) == (2 << 20, 6)


def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(serve)
    return app


def test_every_option_has_a_variable_and_a_line_of_help():
    done = CliRunner().invoke(app(), ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.exit_code == 0
    for field in fields(ServeOptions):
        assert f"--{field.name.replace('n_parallel', 'parallel').replace('_', '-')}" in done.output
    assert done.output.count("[env var: LORRY_") == len(fields(ServeOptions)) + 1


def test_the_server_alone_does_not_start_without_a_model():
    assert CliRunner().invoke(app(), []).exit_code == 2
