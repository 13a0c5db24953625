"""The graph: chat data in, a served file out."""

from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl
from ruamel.yaml import YAML

from components.evaluate.component import evaluate as evaluate_step
from components.export_gguf.component import export_gguf
from components.split_data.component import split_data
from components.train_lora.component import train_lora
from pipelines.fingerprint import code_fingerprint
from pipelines.placement import place

STEPS = ("split_data", "train_lora", "evaluate", "export_gguf")


class Outputs(NamedTuple):
    """What a run makes. The figures travel as metadata of the ``…_metrics``."""

    split_report: dsl.HTML
    split_accounts: dsl.Artifact
    split_metrics: dsl.Metrics
    adapter: dsl.Model
    train_metrics: dsl.Metrics
    evaluation_report: dsl.HTML
    samples: dsl.Artifact
    evaluation_metrics: dsl.Metrics
    model: dsl.Model
    export_metrics: dsl.Metrics


@dsl.pipeline(name="finetune", description="Split, train a LoRA adapter, evaluate, export a quantized GGUF.")
def finetune(base_model: dict, split: dict, train: dict, evaluate: dict, export: dict, checkpoint_root: str) -> Outputs:
    """Each parameter is a section of the resolved recipe; training keeps its checkpoints in ``checkpoint_root``."""
    rows = split_data(config=split, code=code_fingerprint("split_data"))
    trained = train_lora(
        config=train,
        base_model=base_model,
        code=code_fingerprint("train_lora"),
        checkpoint_root=checkpoint_root,
        train=rows.outputs["train"],
        validation=rows.outputs["validation"],
    )
    evaluated = evaluate_step(
        config=evaluate,
        base_model=base_model,
        code=code_fingerprint("evaluate"),
        adapter=trained.outputs["adapter"],
        validation=rows.outputs["validation"],
        test=rows.outputs["test"],
    )
    exported = export_gguf(
        config=export,
        base_model=base_model,
        code=code_fingerprint("export_gguf"),
        adapter=trained.outputs["adapter"],
        evaluation=evaluated.outputs["metrics"],
    )
    return Outputs(
        split_report=rows.outputs["report"],
        split_accounts=rows.outputs["accounts"],
        split_metrics=rows.outputs["metrics"],
        adapter=trained.outputs["adapter"],
        train_metrics=trained.outputs["metrics"],
        evaluation_report=evaluated.outputs["report"],
        samples=evaluated.outputs["samples"],
        evaluation_metrics=evaluated.outputs["metrics"],
        model=exported.outputs["model"],
        export_metrics=exported.outputs["metrics"],
    )


def compile_finetune(path: Path) -> None:
    """Write the pipeline document, as kfp.local and a KFP endpoint take it, to ``path`` (YAML)."""
    compiler.Compiler().compile(finetune, str(path))
    yaml = YAML(typ="rt")
    with path.open(encoding="utf-8") as file:
        documents = list(yaml.load_all(file))
    place(documents[0])
    with path.open("w", encoding="utf-8") as file:
        yaml.dump_all(documents, file)
