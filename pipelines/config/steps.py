"""The list of steps: each is declared once, and what the rest of the program knows of it follows from here.

A run's steps are the fields of ``Sections``: a recipe's section, its settings, and the step that they are of. A sweep
has more steps, whose settings are no section of a recipe: ``SWEEP_STEPS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from components.artifacts.contracts import GGUF_ANSWERS_NAME, HISTORY_NAME, RUN_RECORD_NAME, SAMPLES_NAME
from components.evaluate.config import EvaluateConfig
from components.evaluate_gguf.config import EvaluateGgufConfig
from components.export_gguf.config import ExportConfig
from components.gate.config import GateConfig
from components.publish_model.config import PublishConfig
from components.publish_sweep.publish import REPORTS
from components.split_data.config import SplitConfig
from components.train_lora.config import TrainConfig
from pipelines.config.figures import (
    Figures,
    describe_any,
    describe_evaluation,
    describe_export,
    describe_quantization,
    describe_split,
    describe_training,
)

WINNER_EVALUATION = "winner-evaluation.html"


@dataclass(frozen=True)
class Step:
    """One step of a pipeline.

    ``name`` is its folder in ``components/``, its KFP component, and its name in logs, summaries and ``--no-reuse``.
    The image is the one that its ``component.py`` names. ``pool``: ``"gpu"`` stands for the pool that the recipe
    chooses. ``kept`` are the outputs that a run copies into its folder, with the file names that they get there; of an
    output that is a folder, ``"output/file"`` is one file. ``describe`` turns its metrics into lines for the summary.
    """

    name: str
    pool: Literal["gpu", "cpu", "small"] = "small"
    kept: Mapping[str, str] = field(default_factory=dict)
    describe: Callable[[Figures], list[str]] = describe_any
    keeps_checkpoints: bool = False
    # It changes something outside the run each time, so that its result is never reused.
    always_runs: bool = False


class Sections(BaseModel):
    """The sections of a recipe, a step each, in the order of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    split: Annotated[
        SplitConfig,
        Step("split_data", kept={"report": "split.html", "summary": "split.json"}, describe=describe_split),
    ]
    train: Annotated[
        TrainConfig,
        Step(
            "train_lora",
            pool="gpu",
            kept={f"adapter/{name}": name for name in (RUN_RECORD_NAME, HISTORY_NAME)},
            describe=describe_training,
            keeps_checkpoints=True,
        ),
    ] = TrainConfig()
    evaluate: Annotated[
        EvaluateConfig,
        Step(
            "evaluate",
            pool="gpu",
            kept={"report": "evaluation.html", "samples": SAMPLES_NAME},
            describe=describe_evaluation,
        ),
    ] = EvaluateConfig()
    export: Annotated[ExportConfig, Step("export_gguf", pool="cpu", describe=describe_export)] = ExportConfig()
    evaluate_gguf: Annotated[
        EvaluateGgufConfig,
        Step(
            "evaluate_gguf",
            pool="cpu",
            kept={"report": "quantization.html", "answers": GGUF_ANSWERS_NAME},
            describe=describe_quantization,
        ),
    ] = EvaluateGgufConfig()
    gate: Annotated[GateConfig, Step("gate")] = GateConfig()
    publish: Annotated[PublishConfig, Step("publish_model", always_runs=True)] = PublishConfig()


SECTIONS: dict[str, Step] = {
    section: next(item for item in declared.metadata if isinstance(item, Step))
    for section, declared in Sections.model_fields.items()
}
RUN_STEPS = tuple(SECTIONS.values())

# In the order in which a sweep shows them; it trains and evaluates the winners last.
SWEEP_STEPS = (
    replace(SECTIONS["split"], kept={}),
    Step("train_trial", pool="gpu", keeps_checkpoints=True),
    Step("promote_trials"),
    Step("compare_runs", kept=REPORTS),
    Step("publish_sweep", always_runs=True),
    replace(SECTIONS["train"], kept={}),
    replace(SECTIONS["evaluate"], kept={"report": WINNER_EVALUATION}),
)

STEPS: dict[str, Step] = {step.name: step for step in (*SWEEP_STEPS, *RUN_STEPS)}


def step_of_task(task: str) -> str:
    """The name of the step that a task of KFP runs: of a step's tasks in one graph, all but the first are numbered."""
    return re.sub(r"-\d+$", "", task).replace("-", "_")


def names_of(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """The names of steps, in their order."""
    return tuple(step.name for step in steps)
