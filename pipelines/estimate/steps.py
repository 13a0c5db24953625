"""The estimate of each step of a run: seconds, peak memory and cost, corrected by earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from components.artifacts.contracts import BaseModelRef
from components.errors import LorryError
from components.evaluate.prompts import read_prompts
from components.storage.local_files import local_file
from components.train_lora.config import TrainConfig
from pipelines.config.steps import Sections
from pipelines.estimate import memory, seconds
from pipelines.estimate.calibration import Calibration, Correction
from pipelines.estimate.lengths import Data, read_data
from pipelines.estimate.machines import Machine, Place
from pipelines.estimate.memory import Peak
from pipelines.estimate.ranges import Range
from pipelines.estimate.schedule import Schedule, schedule_of, validation_batch
from pipelines.estimate.seconds import Seconds
from pipelines.estimate.shape import ModelShape, read_shape
from pipelines.estimate.sizes import Sizes, sizes_of

MEMORY_SPREAD = 0.2


@dataclass(frozen=True)
class StepModel:
    """A step by published figures: what it takes, and on what machine."""

    step: str
    machine: Machine
    seconds: Seconds
    peak: Peak


@dataclass(frozen=True)
class RunModel:
    """A run by published figures."""

    shape: ModelShape
    base: BaseModelRef
    data: Data
    plan: Schedule
    sizes: Sizes
    steps: tuple[StepModel, ...]


def model_of(sections: Sections, base: BaseModelRef, place: Place, *, steps: Iterable[str] | None = None) -> RunModel:
    """A run of ``sections`` by published figures; ``steps`` are those to estimate, all of a run where it is None.

    Raises:
        LorryError: base or data cannot be read from this machine.
    """
    shape = read_shape(base)
    data = read_data(sections.split, base)
    inputs = _Inputs.of(sections, base, shape, data, place)
    wanted = STEP_MODELS if steps is None else {name: STEP_MODELS[name] for name in steps}
    models = tuple(_step(name, make, inputs) for name, make in wanted.items())
    return RunModel(shape, base, data, inputs.plan, inputs.sizes, models)


@dataclass(frozen=True)
class _Inputs:
    """What the models of the steps are made of."""

    sections: Sections
    base: BaseModelRef
    shape: ModelShape
    data: Data
    place: Place
    plan: Schedule
    sizes: Sizes
    n_answers: int

    @classmethod
    def of(cls, sections: Sections, base: BaseModelRef, shape: ModelShape, data: Data, place: Place) -> _Inputs:
        train = sections.train
        trainer = place.machine_of("train_lora")
        plan = schedule_of(train, data.train.cut(train.max_length), max(trainer.gpus, 1))
        sizes = sizes_of(shape, train, sections.export, base.to_merge_into.weight_bytes)
        return cls(sections, base, shape, data, place, plan, sizes, _n_answers(sections))

    @property
    def train(self) -> TrainConfig:
        return self.sections.train

    @property
    def answer_tokens(self) -> float:
        """Tokens of an answer, for which the data's own are the best guess."""
        return min(float(self.sections.evaluate.max_new_tokens), max(self.data.answer_tokens, 8.0))


def _n_answers(sections: Sections) -> int:
    if sections.evaluate.prompts is None:
        return 0
    try:
        prompts = read_prompts(local_file(sections.evaluate.prompts, None))
    except LorryError:
        return 10  # on a volume: as many as the published comparison asks
    return sum(len(prompt.turns) for prompt in prompts)


Part = tuple[Seconds, Peak]


def _step(name: str, make: Callable[[_Inputs, Machine], Part], inputs: _Inputs) -> StepModel:
    with_model = inputs.sections.split.quality.measures_perplexity
    machine = inputs.place.machine_of(name, splits_with_model=with_model)
    took, peak = make(inputs, machine)
    return StepModel(name, machine, took, peak)


def _split(inputs: _Inputs, machine: Machine) -> Part:
    return seconds.split_seconds(inputs.data), memory.split_peak(inputs.shape)


def _train(inputs: _Inputs, machine: Machine) -> Part:
    train, shape = inputs.train, inputs.shape
    precision = memory.precision_of(train, inputs.base, machine)
    rows = inputs.data.validation.cut(train.max_length)
    validation = validation_batch(shape, rows, train.per_device_eval_batch_size)
    took = seconds.training_seconds(shape, train, inputs.plan, rows, precision, machine, inputs.sizes.adapter)
    return took, memory.training_peak(shape, train, precision, machine, inputs.plan.largest, validation)


def _evaluate(inputs: _Inputs, machine: Machine) -> Part:
    config, limit = inputs.sections.evaluate, inputs.train.max_length
    rows = inputs.data.validation.cut(limit)
    splits = [rows, *([inputs.data.test.cut(limit)] if config.test else [])]
    batch = validation_batch(inputs.shape, rows, config.per_device_eval_batch_size)
    took = seconds.evaluation_seconds(inputs.shape, splits, inputs.n_answers, inputs.answer_tokens, machine)
    return took, memory.evaluation_peak(inputs.shape, inputs.train, config, machine, batch)


def _export(inputs: _Inputs, machine: Machine) -> Part:
    return seconds.export_seconds(inputs.shape, inputs.sizes, machine), memory.export_peak(inputs.shape)


def _evaluate_gguf(inputs: _Inputs, machine: Machine) -> Part:
    rows = inputs.data.validation.cut(inputs.train.max_length)
    n_rows = inputs.sections.evaluate_gguf.max_rows
    took = seconds.gguf_evaluation_seconds(inputs.shape, rows, n_rows, inputs.n_answers, inputs.answer_tokens, machine)
    sizes = inputs.sizes
    return took, memory.gguf_evaluation_peak(inputs.shape, sizes.f16, sizes.model, max(rows.tokens, default=1))


def _gate(inputs: _Inputs, machine: Machine) -> Part:
    return seconds.gate_seconds(), Peak(memory.SMALL_STEP_BYTES)


def _publish(inputs: _Inputs, machine: Machine) -> Part:
    return seconds.publish_seconds(inputs.sizes), Peak(memory.SMALL_STEP_BYTES)


STEP_MODELS: dict[str, Callable[[_Inputs, Machine], Part]] = {
    "split_data": _split,
    "train_lora": _train,
    "evaluate": _evaluate,
    "export_gguf": _export,
    "evaluate_gguf": _evaluate_gguf,
    "gate": _gate,
    "publish_model": _publish,
}


@dataclass(frozen=True)
class StepEstimate:
    """What a step is expected to take. ``n_runs`` is the number of earlier runs behind its seconds."""

    step: str
    machine: Machine
    seconds: Range
    host_bytes: Range
    gpu_bytes: Range | None
    cost: Range | None
    n_runs: int
    source: str


def estimate_step(model: StepModel, n_parameters: int, calibration: Calibration, data_spread: float) -> StepEstimate:
    """A step's estimate, corrected by earlier runs."""
    spread = model.machine.speed.spread
    speed = calibration.of_seconds(model.step, n_parameters, spread)
    took = _seconds(model, speed, data_spread)
    size = calibration.of_memory(model.step, n_parameters, MEMORY_SPREAD)
    price = model.machine.price_per_hour
    return StepEstimate(
        step=model.step,
        machine=model.machine,
        seconds=took,
        host_bytes=size.factor.times(model.peak.host),
        gpu_bytes=None if model.peak.gpu is None else _gpu(model.peak.gpu),
        cost=None if price is None else took.times(price / 3600),
        n_runs=speed.n_runs,
        source=f"{speed.n_runs} earlier runs" if speed.n_runs else model.machine.speed.source,
    )


def _gpu(n_bytes: float) -> Range:
    return Range(n_bytes / (1 + MEMORY_SPREAD), n_bytes, n_bytes * (1 + MEMORY_SPREAD))


def _seconds(model: StepModel, speed: Correction, data_spread: float) -> Range:
    start = model.seconds.start + model.machine.pod_seconds
    work = speed.factor.times(model.seconds.work)
    return Range(
        0.8 * start + work.low / (1 + data_spread), start + work.value, 1.4 * start + work.high * (1 + data_spread)
    )
