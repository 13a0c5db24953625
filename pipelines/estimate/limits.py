"""What cannot fit where it is to run, and what would."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from pipelines.config.recipe_inputs import with_overrides
from pipelines.config.steps import Sections
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.machines import Place, place
from pipelines.estimate.steps import RunModel, StepEstimate, estimate_step, model_of

MIN_LENGTH = 64


@dataclass(frozen=True)
class Shortage:
    """A step that has too little of something. ``certain``: it cannot fit even at the lower end of the estimate."""

    step: str
    what: str
    needed_bytes: float
    given_bytes: float
    where: str
    setting: str
    certain: bool

    @property
    def line(self) -> str:
        verb = "cannot fit" if self.certain else "may not fit"
        return (
            f"{self.step} {verb}: it takes about {size(self.needed_bytes)} of {self.what}, and {self.where} has "
            f"{size(self.given_bytes)}{self.setting}"
        )


def size(n_bytes: float) -> str:
    """Bytes as a person reads them."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def shortages_of(steps: tuple[StepEstimate, ...]) -> list[Shortage]:
    """The steps whose memory does not fit, or may not."""
    return [shortage for step in steps for shortage in _of_step(step)]


def _of_step(step: StepEstimate) -> Iterator[Shortage]:
    machine = step.machine
    if step.gpu_bytes is not None and machine.gpu_bytes is not None and step.gpu_bytes.value > machine.gpu_bytes:
        certain = step.gpu_bytes.low > machine.gpu_bytes
        yield Shortage(step.step, "GPU memory", step.gpu_bytes.value, machine.gpu_bytes, machine.name, "", certain)
    if machine.memory_bytes is not None and step.host_bytes.value > machine.memory_bytes:
        certain = step.host_bytes.low > machine.memory_bytes
        is_pool = machine.name.startswith("pool ")
        setting = f" (placement.pools.{machine.name.removeprefix('pool ')}.memory)" if is_pool else ""
        yield Shortage(step.step, "memory", step.host_bytes.value, machine.memory_bytes, machine.name, setting, certain)


def disk_shortage(model: RunModel, workdir: Path) -> Shortage | None:
    """The free space of the work folder's disk, where it is too little for a run on this machine."""
    present = workdir.absolute()
    while not present.exists():
        present = present.parent
    free = shutil.disk_usage(present).free
    if free >= model.sizes.disk:
        return None
    return Shortage(
        "export_gguf", "disk", model.sizes.disk, free, str(present), " free (free some, or choose --workdir)", True
    )


# Changes of the recipe that save memory, the cheapest first: each gives its next value, or None where there is none.
def _changes(sections: Sections) -> Iterator[tuple[str, Callable[[Sections], dict[str, Any] | None]]]:
    yield "smaller batches", _halved_batch
    yield (
        "gradient checkpointing",
        lambda now: None if now.train.gradient_checkpointing else {"train.gradient_checkpointing": True},
    )
    yield "nf4", lambda now: None if now.train.base_quantization == "nf4" else {"train.base_quantization": "nf4"}
    yield "shorter rows", _halved_length
    yield "smaller validations", _halved_validation


def _halved_batch(now: Sections) -> dict[str, Any] | None:
    rows, batches = now.train.per_device_train_batch_size, now.train.gradient_accumulation_steps
    if rows == 1:
        return None
    fewer = rows // 2 if rows % 2 == 0 else 1
    return {
        "train.per_device_train_batch_size": fewer,
        "train.gradient_accumulation_steps": batches * rows // fewer,
    }


def _halved_length(now: Sections) -> dict[str, Any] | None:
    half = now.train.max_length // 2
    return {"train.max_length": half} if half >= MIN_LENGTH else None


def _halved_validation(now: Sections) -> dict[str, Any] | None:
    rows = now.train.per_device_eval_batch_size
    return {"train.per_device_eval_batch_size": rows // 2} if rows > 1 else None


def fixes(sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, failing: set[str]) -> list[str]:
    """Settings and pools with which the ``failing`` steps fit, each tried with the same estimate."""
    found = [
        text for _, change in _changes(sections) if (text := _alone(sections, base, at, calibration, change, failing))
    ]
    if not found and (text := _together(sections, base, at, calibration, failing)):
        found = [text]
    return [*found, *_pools(sections, base, at, calibration, failing)]


def _fits(sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, failing: set[str]) -> bool:
    model = model_of(sections, base, at, steps=failing)
    n = model.shape.n_parameters
    steps = tuple(estimate_step(step, n, calibration, 0.0) for step in model.steps)
    return not shortages_of(steps)


Change = Callable[[Sections], dict[str, Any] | None]


def _alone(
    sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, change: Change, failing: set[str]
) -> str | None:
    """The first value of one change with which all fits, or None."""
    settings: dict[str, Any] = {}
    now = sections
    while (step := change(now)) is not None:
        settings |= step
        now = with_overrides(now, step)
        if _fits(now, base, at, calibration, failing):
            return _written(settings)
    return None


def _together(
    sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, failing: set[str]
) -> str | None:
    """Changes one after another, each as far as it goes, until all fits; None where nothing does."""
    settings: dict[str, Any] = {}
    now = sections
    for _, change in _changes(sections):
        while (step := change(now)) is not None:
            settings |= step
            now = with_overrides(now, step)
            if _fits(now, base, at, calibration, failing):
                return _written(settings)
    return None


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {str(value).lower() if value is True else value}" for key, value in settings.items())


def _pools(sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, failing: set[str]) -> list[str]:
    """The other pools of the placement on which the steps fit."""
    if at.placement is None:
        return []
    others = [name for name in at.placement.pools if name not in (at.placement.pool, "small")]
    return [
        f"--pool {name}" for name in others if _fits(sections, base, place(at.placement.on(name)), calibration, failing)
    ]
