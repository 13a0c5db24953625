"""The graph: chat data in, a served file out."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

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
from pipelines.graph.fingerprint import code_fingerprint
from pipelines.graph.images import load_settings
from pipelines.graph.placement import Places, name_images

STEPS = ("split_data", "train_lora", "evaluate", "export_gguf", "evaluate_gguf", "gate", "publish_model")


class Outputs(NamedTuple):
    """What a run makes. The figures travel as metadata of the ``…_metrics``."""

    split_report: dsl.HTML
    split_summary: dsl.Artifact
    split_outcomes: dsl.Artifact
    split_metrics: dsl.Metrics
    adapter: dsl.Model
    train_metrics: dsl.Metrics
    evaluation_report: dsl.HTML
    samples: dsl.Artifact
    evaluation_metrics: dsl.Metrics
    model: dsl.Model
    export_metrics: dsl.Metrics
    gguf_report: dsl.HTML
    gguf_answers: dsl.Artifact
    gguf_metrics: dsl.Metrics
    published: dsl.Artifact


def finetune_on(places: Places) -> dsl.base_component.BaseComponent:
    """The graph, each of its tasks where ``places`` puts it."""

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
    ) -> Outputs:
        """Each section of the resolved recipe is a parameter; training keeps its checkpoints in ``checkpoint_root``."""
        rows = places.for_split(split_data(config=split, code=code_fingerprint("split_data")))
        trained = places.on_pool(
            train_lora(
                config=train,
                base_model=base_model,
                code=code_fingerprint("train_lora"),
                checkpoint_root=checkpoint_root,
                train=rows.outputs["train"],
                validation=rows.outputs["validation"],
            )
        )
        places.keep_checkpoints(trained)
        evaluated = places.on_pool(
            evaluate_step(
                config=evaluate,
                base_model=base_model,
                code=code_fingerprint("evaluate"),
                adapter=trained.outputs["adapter"],
                validation=rows.outputs["validation"],
                test=rows.outputs["test"],
            )
        )
        exported = places.on_cpu(
            export_gguf(
                config=export,
                base_model=base_model,
                code=code_fingerprint("export_gguf"),
                adapter=trained.outputs["adapter"],
                evaluation=evaluated.outputs["metrics"],
                validation=rows.outputs["validation"],
            )
        )
        measured = places.on_cpu(
            evaluate_gguf_step(
                config=evaluate_gguf,
                evaluate=evaluate,
                base_model=base_model,
                code=code_fingerprint("evaluate_gguf"),
                adapter=trained.outputs["adapter"],
                model=exported.outputs["model"],
                validation=rows.outputs["validation"],
            )
        )
        passed = places.on_small(
            gate_step(
                config=gate,
                code=code_fingerprint("gate"),
                evaluation=evaluated.outputs["metrics"],
                gguf_evaluation=measured.outputs["metrics"],
            )
        )
        published = places.on_small(
            publish_model(
                config=publish,
                code=code_fingerprint("publish_model"),
                recipe=recipe,
                run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                model=exported.outputs["model"],
                split_metrics=rows.outputs["metrics"],
                train_metrics=trained.outputs["metrics"],
                evaluation_metrics=evaluated.outputs["metrics"],
                export_metrics=exported.outputs["metrics"],
                gguf_metrics=measured.outputs["metrics"],
            ).after(passed)
        )
        # It moves the store's pointer each time, also to a model that was there before.
        published.set_caching_options(False)
        return Outputs(
            split_report=rows.outputs["report"],
            split_summary=rows.outputs["summary"],
            split_outcomes=rows.outputs["outcomes"],
            split_metrics=rows.outputs["metrics"],
            adapter=trained.outputs["adapter"],
            train_metrics=trained.outputs["metrics"],
            evaluation_report=evaluated.outputs["report"],
            samples=evaluated.outputs["samples"],
            evaluation_metrics=evaluated.outputs["metrics"],
            model=exported.outputs["model"],
            export_metrics=exported.outputs["metrics"],
            gguf_report=measured.outputs["report"],
            gguf_answers=measured.outputs["answers"],
            gguf_metrics=measured.outputs["metrics"],
            published=published.outputs["published"],
        )

    return finetune


def compile_finetune(
    path: Path,
    placement: Placement | None = None,
    claims: Iterable[str] = (),
    *,
    split_with_model: bool = False,
    store: str | None = None,
    no_reuse: Collection[str] = (),
) -> None:
    """Write the pipeline document to ``path`` (YAML).

    Without a placement it is for this machine: no image is used there, and none is named whole. ``split_with_model``
    says that the split asks the base model, and belongs where training does. ``store`` is where steps leave word of
    themselves, and ``no_reuse`` names those that run although nothing has changed.

    Raises:
        RecipeError: the image settings cannot be used.
    """
    places = Places(placement, claims, split_with_model=split_with_model, store=store, no_reuse=no_reuse)
    compiler.Compiler().compile(finetune_on(places), str(path))
    if placement is not None:
        write_image_names(path)


def write_image_names(path: Path) -> None:
    """Put registry and tag on every image that the compiled document at ``path`` names.

    Raises:
        RecipeError: the image settings cannot be used.
    """
    settings = load_settings()
    yaml = YAML(typ="rt")
    with path.open(encoding="utf-8") as file:
        documents = list(yaml.load_all(file))
    name_images(documents[0], settings)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump_all(documents, file)
