"""A sweep's reports and its winners' figures in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.publish_model.config import PublishConfig
from components.publish_sweep.publish import REPORTS, folder_of, publish_comparison, publish_winner, winners_in
from components.storage.store import Store


@pytest.fixture
def config(tmp_path) -> PublishConfig:
    return PublishConfig(store=str(tmp_path / "store"))


def store_of(config: PublishConfig) -> Store:
    return Store(str(config.store))


def write(folder: Path, **contents: str) -> dict[str, str]:
    paths = {}
    for name, content in contents.items():
        (folder / name).write_text(content)
        paths[name] = str(folder / name)
    return paths


def test_every_report_is_stored_under_its_file_name(config, tmp_path):
    publish_comparison(config, "run-1", write(tmp_path, **{name: name.upper() for name in REPORTS}))
    store = store_of(config)
    assert {key: store.read(key).decode() for key in store.keys(folder_of("run-1"))} == {
        f"runs/run-1/sweep/{file}": name.upper() for name, file in REPORTS.items()
    }


def test_an_empty_report_is_not_stored(config, tmp_path):
    """The best recipe is an empty file where no trial has a loss."""
    publish_comparison(config, "run-1", write(tmp_path, report="page", best_recipe=""))
    assert store_of(config).keys(folder_of("run-1")) == ["runs/run-1/sweep/report.html"]


def test_winners_have_their_figures_by_trial(config):
    publish_winner(config, "run-1", "lr=1e-3", {"test_loss": 1.5})
    publish_winner(config, "run-1", "b", {"test_loss": 1.2})
    publish_winner(config, "run-2", "c", {})
    store = store_of(config)
    assert dict(winners_in(store, "run-1")) == {"lr=1e-3": {"test_loss": 1.5}, "b": {"test_loss": 1.2}}
    assert dict(winners_in(store, "run-2")) == {"c": {}}


def test_a_winner_that_is_published_again_has_its_newest_figures(config):
    for loss in (1.5, 1.4):
        publish_winner(config, "run-1", "a", {"test_loss": loss})
    assert dict(winners_in(store_of(config), "run-1")) == {"a": {"test_loss": 1.4}}


def test_a_run_without_winners_has_none(config):
    publish_winner(config, "run-1", "a", {})
    assert list(winners_in(store_of(config), "run-9")) == []
