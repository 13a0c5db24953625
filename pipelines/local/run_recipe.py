"""A recipe from its file to the table of figures, on this machine: what ``lorry run`` and ``lorry demo`` do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from components.runtime.disk_space import require_export_space
from pipelines.config.recipe import load_recipe
from pipelines.local.run import run_pipeline
from pipelines.local.workdir import Workdir
from pipelines.preflight.base_check import require_usable_bases
from pipelines.resolve.resolved_recipe import on_this_machine, resolve
from pipelines.resolve.trials import as_trial
from pipelines.terminal import summary
from pipelines.terminal.progress import Progress


def run_recipe(console: Console, path: Path, workdir: Workdir, no_reuse: Collection[str] = ()) -> Path:
    """Run the recipe at ``path`` and show its figures; give the path of the exported model.

    Raises:
        LorryError: the recipe cannot be used, or a step failed.
    """
    recipe = load_recipe(path)
    with workdir.in_use(), Progress(console) as progress:
        progress.started("resolve")
        pinned = resolve(recipe, workdir.root, lambda line: progress.line("resolve", line))
        resolved = on_this_machine(pinned, workdir.store)
        bases = [(resolved.base_model, resolved.train.lora_target_modules)]
        require_usable_bases(bases, lambda line: progress.line("resolve", line))
        require_export_space(workdir.root, resolved.base_model.to_merge_into.weight_bytes)
        progress.finished("resolve")
        result = run_pipeline(resolved, as_trial(recipe.name, {}, recipe, resolved), workdir, progress, no_reuse)
    summary.show(console, result.folder.name, result.figures, progress.minutes, result.locations)
    return result.model
