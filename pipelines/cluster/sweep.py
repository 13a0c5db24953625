"""A sweep sent to a Kubeflow endpoint, and its reports fetched from the store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from components.compare_runs.report import DATA
from components.errors import ModelError
from components.publish_sweep.publish import REPORTS, folder_of, winners_in
from components.storage.store import Store
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.config.addresses import claims_in
from pipelines.config.pools import Placement
from pipelines.local.run import DOCUMENT
from pipelines.local.sweep import SweepResult
from pipelines.resolve.trials import ResolvedSweep


def fetch_sweep(store: Store, run_id: str, folder: Path) -> SweepResult:
    """The reports of a sweep on a cluster, copied from the store into ``folder``.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: the sweep left nothing there.
    """
    reports = folder_of(run_id)
    if store.size_of(f"{reports}/{DATA}") is None:
        raise ModelError(f"{store.address_of(reports)}: the sweep left no comparison there")
    folder.mkdir(parents=True, exist_ok=True)
    for name in REPORTS.values():
        if store.size_of(f"{reports}/{name}") is not None:
            (folder / name).write_bytes(store.read(f"{reports}/{name}"))
    return SweepResult(folder, [figures for _, figures in winners_in(store, run_id)])


def submit_sweep(
    resolved: ResolvedSweep,
    placement: Placement,
    kubeflow: Kubeflow,
    experiment_id: str,
    report: Callable[[str], None],
    no_reuse: Collection[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Compile the sweep for a cluster and start it; see ``pipelines.cluster.submit.start``.

    Raises:
        ClusterError: the endpoint refuses or does not answer.
    """
    from pipelines.graph.placement import CHECKPOINTS
    from pipelines.graph.sweep import compile_sweep

    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / DOCUMENT
        compile_sweep(
            document,
            resolved.fractions,
            parallelism=resolved.sweep.parallelism,
            placement=placement,
            claims=claims_in(resolved.addresses),
            split_with_model=resolved.split_with_model,
            store=resolved.publish["store"],
            no_reuse=no_reuse,
        )
        name = f"{resolved.sweep.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        report(f"{len(resolved.trials)} trials, {resolved.sweep.parallelism} at a time")
        arguments = resolved.arguments(CHECKPOINTS)
        return kubeflow.submit(document, arguments, name, experiment_id), arguments
