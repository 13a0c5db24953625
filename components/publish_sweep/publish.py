"""Put a sweep's reports and its winners' figures into the store, where ``lorry sweep --wait`` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.compare_runs.report import CHART, DATA, PAGE, RECIPE, TABLE
from components.publish_model.config import PublishConfig
from components.storage.store import Store

REPORTS = {"report": PAGE, "table": TABLE, "curves": CHART, "comparison": DATA, "best_recipe": RECIPE}


def publish_comparison(config: PublishConfig, run: str, paths: Mapping[str, str]) -> None:
    """Put the reports at ``paths``, by the name of the step's output, into the store.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    store = _store(config)
    for name, path in paths.items():
        if Path(path).stat().st_size:
            store.put(f"{folder_of(run)}/{REPORTS[name]}", Path(path))


def publish_winner(config: PublishConfig, run: str, trial: str, figures: Mapping[str, float]) -> None:
    """Put a winner's figures on the test rows, which no choice was based on, into the store.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    _store(config).put_bytes(f"{folder_of(run)}/winners/{trial}.json", json.dumps(dict(figures)).encode())


def winners_in(store: Store, run: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Each winner of a sweep with its figures.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    for key in store.keys(f"{folder_of(run)}/winners"):
        yield Path(key).stem, json.loads(store.read(key))


def folder_of(run: str) -> str:
    """The folder of a sweep's reports in the store."""
    return f"runs/{run}/sweep"


def _store(config: PublishConfig) -> Store:
    assert config.store is not None  # the recipe is resolved
    return Store(config.store, create=True)
