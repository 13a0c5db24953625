"""The graph of a run: chat data in, a published GGUF file out."""

from collections.abc import Collection, Iterable
from pathlib import Path

from kfp import compiler, dsl
from ruamel.yaml import YAML

from components.evaluate.component import evaluate as evaluate_step
from components.evaluate_gguf.component import evaluate_gguf as evaluate_gguf_step
from components.export_gguf.component import export_gguf
from components.gate.component import gate as gate_step
from components.publish_model.component import publish_model
from components.split_data.component import split_data
from components.train_lora.component import train_lora
from pipelines.config.pools import Placement
from pipelines.config.steps import RUN_STEPS
from pipelines.graph.images import ImageSettings
from pipelines.graph.placement import StepPlacer, name_images


def finetune_on(steps: StepPlacer) -> dsl.base_component.BaseComponent:
    """The graph, each of its tasks on the pool where ``steps`` puts it."""

    @dsl.pipeline(
        name="finetune",
        description="Split, train a LoRA adapter, evaluate, export a quantized GGUF, measure it, publish it.",
    )
    def finetune(
        base_model: dict,
        split: dict,
        train: dict,
        evaluate: dict,
        export: dict,
        evaluate_gguf: dict,
        gate: dict,
        publish: dict,
        recipe: str,
        checkpoint_root: str,
    ) -> None:
        """Each section of the resolved recipe is a parameter; training keeps its checkpoints in ``checkpoint_root``."""
        rows = steps.add(split_data, config=split).outputs
        trained = steps.add(
            train_lora,
            config=train,
            base_model=base_model,
            checkpoint_root=checkpoint_root,
            train=rows["train"],
            validation=rows["validation"],
        ).outputs
        inputs = {"base_model": base_model, "adapter": trained["adapter"], "validation": rows["validation"]}
        evaluated = steps.add(evaluate_step, config=evaluate, test=rows["test"], **inputs).outputs
        exported = steps.add(export_gguf, config=export, evaluation=evaluated["metrics"], **inputs).outputs
        measured = steps.add(
            evaluate_gguf_step, config=evaluate_gguf, evaluate=evaluate, model=exported["model"], **inputs
        ).outputs
        passed = steps.add(gate_step, config=gate, evaluation=evaluated["metrics"], gguf_evaluation=measured["metrics"])
        steps.add(
            publish_model,
            config=publish,
            recipe=recipe,
            run=steps.run_key or dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            model=exported["model"],
            split_metrics=rows["metrics"],
            train_metrics=trained["metrics"],
            evaluation_metrics=evaluated["metrics"],
            export_metrics=exported["metrics"],
            gguf_metrics=measured["metrics"],
        ).after(passed)

    return finetune


def compile_finetune(
    path: Path,
    placement: Placement | None = None,
    claims: Iterable[str] = (),
    *,
    split_with_model: bool = False,
    store: str | None = None,
    no_reuse: Collection[str] = (),
    run_key: str | None = None,
) -> None:
    """Write the pipeline document to ``path`` (YAML); see ``StepPlacer`` for the arguments.

    Without a placement it is for this machine: no image is used there, and none gets registry and tag.

    Raises:
        RecipeError: the image settings cannot be used.
    """
    steps = StepPlacer(
        placement, claims, split_with_model=split_with_model, store=store, no_reuse=no_reuse, run_key=run_key
    )
    graph = finetune_on(steps)
    steps.require_all(RUN_STEPS)
    compiler.Compiler().compile(graph, str(path))
    if steps.image_settings is not None:
        write_image_names(path, steps.image_settings)


def write_image_names(path: Path, settings: ImageSettings) -> None:
    """Put registry and tag on every image that the compiled document at ``path`` names."""
    yaml = YAML(typ="rt")
    with path.open(encoding="utf-8") as file:
        documents = list(yaml.load_all(file))
    name_images(documents[0], settings)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump_all(documents, file)
