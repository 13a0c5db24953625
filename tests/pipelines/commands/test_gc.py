"""``lorry gc``: the list, the question, the deletion, and what is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from components.errors import LorryError, RecipeError
from components.storage.published_models import published
from components.storage.store import Store
from pipelines.cli import app
from pipelines.commands.gc import parse_duration
from tests.components.publish_model.models import put, write_model
from tests.conftest import run_lorry


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of two models, on a machine without a kubeconfig."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KFP_ENDPOINT", raising=False)
    for number in range(2):
        put(write_model(tmp_path / f"model-{number}", b"GGUF" + bytes([number]) * 99), str(tmp_path / "store"))
    return str(tmp_path / "store")


def gc(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["gc", *arguments], input=answer)


def refusal(*arguments: str, answer: str = "") -> str:
    error = gc(*arguments, answer=answer).exception
    assert isinstance(error, LorryError)
    assert len(str(error).splitlines()) == 1
    return str(error)


def test_without_delete_it_lists_and_deletes_nothing(store):
    done = gc(store, "--older-than", "0m", "--keep", "0")
    assert done.exit_code == 0
    assert "  goes: not current, not pinned, not needed by what stays\n    model " in done.stdout
    assert "  stays: the current model of its store\n    model " in done.stdout
    assert "can go: 1 part, 994 B; stays: 1 part, 994 B\nnothing was deleted; the same command with" in done.stdout
    assert len(published(Store(store))) == 2


def test_by_default_what_is_younger_than_a_month_and_the_newest_five_stay(store):
    assert "stays: one of the 5 newest models" in gc(store).stdout
    assert "stays: younger than 30 days" in gc(store, "--keep", "0").stdout


def test_delete_asks_first(store):
    old = ("--older-than", "0m", "--keep", "0", "--delete")
    done = gc(store, *old, answer="n\n")
    assert "delete 1 part? [y/N]" in done.stdout
    assert len(published(Store(store))) == 2
    assert "nobody answered the question, nothing was deleted; give --yes" in refusal(store, *old)
    assert len(published(Store(store))) == 2
    assert "deleted: 1 part, 994 B" in gc(store, *old, answer="y\n").stdout
    assert len(published(Store(store))) == 1


def test_json_is_a_document_and_asks_nothing(store):
    flags = ("--older-than", "0m", "--keep", "0", "--json")
    assert "--delete --json: asks no question; give --yes as well" in refusal(store, *flags, "--delete")
    document = json.loads(gc(store, *flags, "--delete", "--yes").stdout)
    assert [one["goes"] for one in document["items"]].count(True) == 1
    assert [one["kept_because"] for one in document["outcomes"]] == [None]


def test_a_dry_run_prints_the_commands_and_runs_none(store, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = gc("pvc://checkpoints/lorry", "--dry-run", "--context", "dev", "--namespace", "team")
    assert "kubectl --context dev --namespace team get workflows.argoproj.io\n" in done.stdout
    assert "kubectl --context dev --namespace team create -f - <<'END'\n{" in done.stdout
    assert '"/volumes/checkpoints/lorry"' in done.stdout
    done = gc("pvc://checkpoints", "--dry-run", "--context", "dev", "--endpoint", "http://kubeflow")
    assert "kubectl --context dev --namespace kubeflow get workflows.argoproj.io\n" in done.stdout
    assert gc(store, "--dry-run").stdout == "# no kubectl command: no place is a volume, and no cluster is asked\n"


def test_a_time_is_a_number_with_its_unit():
    assert [parse_duration(text) for text in ("2w", "30d", "12h", "5m")] == [
        timedelta(weeks=2), timedelta(days=30), timedelta(hours=12), timedelta(minutes=5),
    ]  # fmt: skip
    for wrong in ("30", "d", "-1d", "1y", "1000000d", "1.5d"):
        with pytest.raises(RecipeError, match=f"--older-than {wrong}: not a time; give a number with w, d, h or m"):
            parse_duration(wrong)


def test_bad_input_is_one_line(store, tmp_path):
    assert refusal("/nowhere").startswith("/nowhere: no such folder")
    assert refusal(store, "--older-than", "soon").startswith("--older-than soon: not a time")
    assert refusal(store, "--overlay", str(tmp_path)).startswith(f"--overlay {tmp_path}: has no folder pinned/")
    (tmp_path / "theirs/file").mkdir(parents=True)
    assert "is no checkpoint root of Lorry's (it holds file)" in refusal(str(tmp_path / "theirs"))
    assert "does not answer" in refusal(store, "--endpoint", "http://127.0.0.1:1")


def test_a_mistyped_kubeconfig_is_no_machine_without_a_cluster(store, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "cofnig"))
    everything = ("--older-than", "0m", "--keep", "0", "--delete", "--yes")
    assert refusal(store, *everything).startswith(f"KUBECONFIG = '{tmp_path}/cofnig': no such file, so no cluster says")
    assert len(published(Store(store))) == 2
    assert "deleted: 1 part" in gc(store, *everything, "--no-cluster").stdout


def test_without_a_place_it_is_the_work_folder_and_the_error_is_printed(tmp_path):
    done = run_lorry("gc", "--workdir", tmp_path / "none")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {tmp_path / 'none'}: no such folder; correct the path, or give the address of a store or a claim\n"
    )


def test_the_help_names_every_option_and_the_forms_of_a_place():
    done = CliRunner().invoke(app, ["gc", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.exit_code == 0
    for word in ("PLACE", "pvc://claim/folder", "--overlay", "--older-than", "--no-cluster", "--dry-run", "--yes"):
        assert word in done.stdout
