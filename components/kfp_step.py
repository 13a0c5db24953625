"""What every batch part's KFP face shares: logging that a pod and a terminal can both show, and metrics."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp import dsl

log = logging.getLogger(__name__)

BEGINS = "%s begins"
NOISY = ("httpx", "datasets", "transformers", "trl", "peft", "accelerate", "filelock")
# llama.cpp's binding would write pages; bitsandbytes asks for a package whose kernel inference alone uses.
SILENT = ("llama-cpp-python", "bitsandbytes.backends.cpu.ops")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Plain log lines, no progress bars and no advice of libraries, for the time of one step."""
    plain_logs(logging.INFO)
    started = time.monotonic()
    log.info(BEGINS, name)
    yield
    log.info("%s done in %.1f s", name, time.monotonic() - started)


def plain_logs(level: int) -> None:
    """Lines without bars or colours; libraries speak up only to warn."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=level, format="%(message)s", force=True)
    for logger in NOISY:
        logging.getLogger(logger).setLevel(max(level, logging.WARNING))
    for logger in SILENT:
        logging.getLogger(logger).setLevel(logging.ERROR)


def log_metrics(metrics: dsl.Output[dsl.Metrics], figures: Mapping[str, float | None]) -> None:
    """Put ``figures`` (those that were measured) on the KFP page."""
    for name, value in figures.items():
        if value is not None:
            metrics.log_metric(name, value)
    # kfp.local reuses a task only when a file stands at each of its outputs.
    Path(metrics.path).write_text("")


def logged_metrics(metrics: dsl.Input[dsl.Metrics]) -> dict[str, float]:
    """The figures that an earlier step put into ``metrics``."""
    return {name: float(value) for name, value in metrics.metadata.items() if isinstance(value, int | float)}
