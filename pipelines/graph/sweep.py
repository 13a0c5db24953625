"""The graph of a sweep: trials side by side, rung by rung, then the table, then the winner on the test rows."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.compare_runs.component import compare_runs
from components.evaluate.component import evaluate as evaluate_step
from components.promote_trials.component import promote_trials
from components.publish_sweep.component import publish_sweep
from components.publish_sweep.publish import REPORTS
from components.split_data.component import split_data
from components.train_lora.component import train_lora
from components.train_trial.component import train_trial
from pipelines.config.pools import Placement
from pipelines.config.steps import SWEEP_STEPS
from pipelines.graph.finetune import write_image_names
from pipelines.graph.placement import StepPlacer


def sweep_on(steps: StepPlacer, fractions: Sequence[float], parallelism: int) -> dsl.base_component.BaseComponent:
    """The graph, with a rung for each of ``fractions``: the share of its steps to which a trial trains there."""

    @dsl.pipeline(name="sweep", description="Train trials, stop poor ones early, compare them, test the winner.")
    def sweep(
        trials: list[dict],
        splits: list[dict],
        evaluate: dict,
        compare: dict,
        publish: dict,
        reduction_factor: int,
        checkpoint_root: str,
    ) -> None:
        """Each of ``trials`` holds ``trial``, ``split``, ``base_model`` and ``train``; ``splits`` has each once."""
        # Split once before the trials fan out: in each of them the same split is then a step that is reused.
        with dsl.ParallelFor(splits, parallelism=parallelism) as split:
            split_once = steps.add(split_data, config=split)
        items: Any = trials
        earlier: dict[str, Any] = {}
        for rung, fraction in enumerate(fractions):
            with dsl.ParallelFor(items, parallelism=parallelism) as item:
                records = _train_trial(steps, item, fraction, checkpoint_root, split_once if rung == 0 else None)
            is_last = rung == len(fractions) - 1
            promoted = steps.add(
                promote_trials,
                trials=items,
                fraction=fraction,
                reduction_factor=1 if is_last else reduction_factor,
                records=dsl.Collected(records),
                **earlier,
            ).outputs
            items, earlier = promoted["Output"], {"earlier": promoted["runs"]}
        compared = steps.add(compare_runs, config=compare, trials=trials, runs=earlier["earlier"]).outputs
        reports = {name: compared[name] for name in REPORTS}
        steps.add(publish_sweep, config=publish, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **reports)
        with dsl.ParallelFor(compared["Output"], parallelism=parallelism) as winner:
            _test_winner(steps, winner, evaluate, publish, checkpoint_root)

    return sweep


def _train_trial(
    steps: StepPlacer, item: Any, fraction: float, checkpoint_root: Any, after: dsl.PipelineTask | None
) -> Any:
    """Split and train one trial as far as its rung goes; its record."""
    rows = steps.add(split_data, config=item.split)
    if after is not None:
        rows.after(after)
    trained = steps.add(
        train_trial,
        trial=item.trial,
        config=item.train,
        base_model=item.base_model,
        fraction=fraction,
        # Checkpoints are found by the code that trains: a run of the best recipe goes on from a trial's.
        code=steps.fingerprint("train_lora"),
        trial_code=steps.fingerprint("train_trial"),
        # A trial that ran out of memory on one pool is tried anew on another.
        pool="" if steps.placement is None else steps.placement.pool,
        checkpoint_root=checkpoint_root,
        train=rows.outputs["train"],
        validation=rows.outputs["validation"],
    )
    return trained.outputs["record"]


def _test_winner(steps: StepPlacer, winner: Any, evaluate: Any, publish: Any, checkpoint_root: Any) -> None:
    """Measure a winner on the test rows, by which nothing was chosen."""
    rows = steps.add(split_data, config=winner.split).outputs
    # Its checkpoint is at the end already: this writes the adapter, and trains nothing.
    adapter = steps.add(
        train_lora,
        config=winner.train,
        base_model=winner.base_model,
        checkpoint_root=checkpoint_root,
        train=rows["train"],
        validation=rows["validation"],
    ).outputs["adapter"]
    evaluated = steps.add(
        evaluate_step,
        config=evaluate,
        base_model=winner.base_model,
        adapter=adapter,
        validation=rows["validation"],
        test=rows["test"],
    ).outputs
    steps.add(
        publish_sweep,
        config=publish,
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        winner=winner.trial,
        evaluation=evaluated["metrics"],
    )


def compile_sweep(
    path: Path,
    fractions: Sequence[float],
    *,
    parallelism: int = 1,
    placement: Placement | None = None,
    claims: Iterable[str] = (),
    split_with_model: bool = False,
    store: str | None = None,
    no_reuse: Collection[str] = (),
) -> None:
    """Write the pipeline document to ``path`` (YAML); see ``compile_finetune``.

    Raises:
        RecipeError: the image settings cannot be used.
    """
    steps = StepPlacer(placement, claims, split_with_model=split_with_model, store=store, no_reuse=no_reuse)
    graph = sweep_on(steps, fractions, parallelism)
    steps.require_all(SWEEP_STEPS)
    compiler.Compiler().compile(graph, str(path))
    if steps.image_settings is not None:
        write_image_names(path, steps.image_settings)
