"""What cannot fit where it is to run, and what would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from pipelines.config.recipe_inputs import with_overrides
from pipelines.config.steps import Sections
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.machines import Place, place
from pipelines.estimate.ranges import Range
from pipelines.estimate.steps import RunModel, StepEstimate, estimate_step, model_of

MIN_LENGTH = 64
# Shorter rows that cut the answers off more of them are no advice.
LEAST_KEPT = 0.9
QUOTE = '"'


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


def _needs(step: StepEstimate) -> Iterator[tuple[Range, int | None, str]]:
    """What a step takes of a kind of memory, what there is of it, and the kind."""
    if step.gpu_bytes is not None:
        yield step.gpu_bytes, step.machine.gpu_bytes, "GPU memory"
    yield step.host_bytes, step.machine.memory_bytes, "memory"


def _of_step(step: StepEstimate) -> Iterator[Shortage]:
    name = step.machine.name
    for needed, given, what in _needs(step):
        if given is None or needed.value <= given:
            continue
        pool = name.removeprefix("pool ")
        setting = f" (placement.pools.{pool}.memory)" if what == "memory" and pool != name else ""
        yield Shortage(step.step, what, needed.value, given, name, setting, certain=needed.low > given)


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


Change = Callable[[Sections], dict[str, Any] | None]


def _halved_batch(now: Sections) -> dict[str, Any] | None:
    rows, batches = now.train.per_device_train_batch_size, now.train.gradient_accumulation_steps
    if rows == 1:
        return None
    fewer = rows // 2 if rows % 2 == 0 else 1
    return {
        "train.per_device_train_batch_size": fewer,
        "train.gradient_accumulation_steps": batches * rows // fewer,
    }


def _checkpointing(now: Sections) -> dict[str, Any] | None:
    return None if now.train.gradient_checkpointing else {"train.gradient_checkpointing": True}


def _nf4(now: Sections) -> dict[str, Any] | None:
    return None if now.train.base_quantization == "nf4" else {"train.base_quantization": "nf4"}


def _halved_length(now: Sections) -> dict[str, Any] | None:
    half = now.train.max_length // 2
    return {"train.max_length": half} if half >= MIN_LENGTH else None


def _halved_validation(now: Sections) -> dict[str, Any] | None:
    rows = now.train.per_device_eval_batch_size
    return {"train.per_device_eval_batch_size": rows // 2} if rows > 1 else None


# What saves memory, the cheapest first: each gives its next values, or None where it goes no further.
CHANGES: tuple[Change, ...] = (_halved_batch, _checkpointing, _nf4, _halved_validation, _halved_length)


@dataclass(frozen=True)
class Attempt:
    """A run that does not fit: its steps that fail, and what an estimate of them takes."""

    sections: Sections
    base: BaseModelRef
    place: Place
    calibration: Calibration
    failing: frozenset[str]

    def fits(self, sections: Sections, at: Place) -> bool:
        """Whether the failing steps surely fit with other settings or in another place, and the rows keep answers."""
        model = model_of(sections, self.base, at, steps=self.failing)
        n_before, n = (model.data.train.cut(one.train.max_length).n_sequences for one in (self.sections, sections))
        if n < LEAST_KEPT * n_before:
            return False
        steps = (estimate_step(step, model.shape.n_parameters, self.calibration, 0.0) for step in model.steps)
        return all(given is None or needed.high <= given for step in steps for needed, given, _ in _needs(step))

    def fixes(self) -> list[str]:
        """Settings and pools with which the failing steps fit, each tried with the same estimate."""
        alone = [text for change in CHANGES if (text := self._with([change]))]
        together = [] if alone else [text for text in [self._with(CHANGES)] if text]
        return [*alone, *together, *self._other_pools()]

    def _with(self, changes: Sequence[Change]) -> str | None:
        """The first values of ``changes``, each taken as far as it goes, with which all fits; None where none does."""
        settings: dict[str, Any] = {}
        now = self.sections
        for change in changes:
            while (values := change(now)) is not None:
                settings |= values
                now = with_overrides(now, values)
                if self.fits(now, self.place):
                    return ", ".join(f"{key}: {json.dumps(value).strip(QUOTE)}" for key, value in settings.items())
        return None

    def _other_pools(self) -> list[str]:
        placement = self.place.placement
        if placement is None:
            return []
        others = [name for name in placement.pools if name not in (placement.pool, "small")]
        return [f"--pool {name}" for name in others if self.fits(self.sections, place(placement.on(name)))]
