"""The graph of a sweep: trials side by side, rung by rung, then the table, then the winner on the test rows."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from pipelines.graph.finetune import write_image_names
from pipelines.graph.fingerprint import code_fingerprint
from pipelines.graph.placement import Places

STEPS = ("split_data", "train_trial", "promote_trials", "compare_runs", "publish_sweep", "train_lora", "evaluate")


class Outputs(NamedTuple):
    """What a sweep makes."""

    runs: dsl.Artifact
    report: dsl.HTML
    table: dsl.Markdown
    curves: dsl.Artifact
    comparison: dsl.Artifact
    best_recipe: dsl.Artifact
    metrics: dsl.Metrics


def sweep_on(places: Places, fractions: Sequence[float], parallelism: int) -> dsl.base_component.BaseComponent:
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
    ) -> Outputs:
        """Each of ``trials`` holds ``trial``, ``split``, ``base_model`` and ``train``; ``splits`` has each once."""
        # Split once before the trials fan out: in each of them the same split is then a step that is reused.
        with dsl.ParallelFor(splits, parallelism=parallelism) as split:
            ready = _split(places, split)
        items: Any = trials
        gathered: dict[str, Any] = {}
        for rung, fraction in enumerate(fractions):
            with dsl.ParallelFor(items, parallelism=parallelism) as item:
                rows = _split(places, item.split)
                if rung == 0:
                    rows.after(ready)
                trained = places.on_pool(
                    train_trial(
                        trial=item.trial,
                        config=item.train,
                        base_model=item.base_model,
                        fraction=fraction,
                        # Checkpoints go by the code that trains: a run of the best recipe goes on from a trial's.
                        code=code_fingerprint("train_lora"),
                        trial_code=code_fingerprint("train_trial"),
                        # A trial without memory on one pool is tried anew on another.
                        pool="" if places.placement is None else places.placement.pool,
                        checkpoint_root=checkpoint_root,
                        train=rows.outputs["train"],
                        validation=rows.outputs["validation"],
                    )
                )
                places.keep_checkpoints(trained)
            is_last = rung == len(fractions) - 1
            promoted = places.on_small(
                promote_trials(
                    trials=items,
                    fraction=fraction,
                    reduction_factor=1 if is_last else reduction_factor,
                    code=code_fingerprint("promote_trials"),
                    records=dsl.Collected(trained.outputs["record"]),
                    **gathered,
                )
            )
            items, gathered = promoted.outputs["Output"], {"earlier": promoted.outputs["runs"]}
        compared = places.on_small(
            compare_runs(config=compare, code=code_fingerprint("compare_runs"), trials=trials, runs=gathered["earlier"])
        )
        shown = places.on_small(
            publish_sweep(
                config=publish,
                code=code_fingerprint("publish_sweep"),
                run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                **{name: compared.outputs[name] for name in REPORTS},
            )
        )
        shown.set_caching_options(False)
        with dsl.ParallelFor(compared.outputs["Output"], parallelism=parallelism) as winner:
            rows = _split(places, winner.split)
            # Its checkpoint is at the end already: this writes the adapter, and trains nothing.
            adapter = places.on_pool(
                train_lora(
                    config=winner.train,
                    base_model=winner.base_model,
                    code=code_fingerprint("train_lora"),
                    checkpoint_root=checkpoint_root,
                    train=rows.outputs["train"],
                    validation=rows.outputs["validation"],
                )
            )
            places.keep_checkpoints(adapter)
            measured = places.on_pool(
                evaluate_step(
                    config=evaluate,
                    base_model=winner.base_model,
                    code=code_fingerprint("evaluate"),
                    adapter=adapter.outputs["adapter"],
                    validation=rows.outputs["validation"],
                    test=rows.outputs["test"],
                )
            )
            told = places.on_small(
                publish_sweep(
                    config=publish,
                    code=code_fingerprint("publish_sweep"),
                    run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                    winner=winner.trial,
                    evaluation=measured.outputs["metrics"],
                )
            )
            told.set_caching_options(False)
        return Outputs(
            runs=gathered["earlier"],
            **{name: compared.outputs[name] for name in Outputs._fields if name != "runs"},
        )

    return sweep


def _split(places: Places, config: Any) -> dsl.PipelineTask:
    return places.for_split(split_data(config=config, code=code_fingerprint("split_data")))


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
    places = Places(placement, claims, split_with_model=split_with_model, store=store, no_reuse=no_reuse)
    compiler.Compiler().compile(sweep_on(places, fractions, parallelism), str(path))
    if placement is not None:
        write_image_names(path)
