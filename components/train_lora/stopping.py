"""Stopping before the last step, by SIGTERM or a limit of the recipe, and checkpoints at time intervals."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from components.artifacts.contracts import StoppedBy
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.processes import any_process, n_processes


class Interrupted(Exception):
    """SIGTERM came during a step or a validation."""


class StopOnSigterm(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Stops training at once on SIGTERM: the unfinished step is lost, all finished ones are kept."""

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False

    @contextmanager
    def handling_sigterm(self) -> Iterator[None]:
        """Let SIGTERM request a stop within the context; outside of it, SIGTERM ends the process as usual."""
        previous = signal.signal(signal.SIGTERM, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a request interrupt the context at once; nothing that is saved may change within it.

        Raises:
            Interrupted: SIGTERM came, now or before.
        """
        # If one of several processes left a step, the others would wait for it forever.
        self._interruptible = n_processes() == 1
        try:
            if self.requested and self._interruptible:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def make_backward_interruptible(self, model: torch.nn.Module) -> None:
        """Let a request interrupt a backward pass: its hooks run Python, and only then do signal handlers run."""
        for layer in model.modules():
            if isinstance(layer, torch.nn.ModuleList):
                for block in layer:
                    block.register_forward_hook(_run_python_in_backward)

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._interruptible:
            raise Interrupted

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if any_process(self.requested):
            self.requested = True
            control.should_save = True
            control.should_training_stop = True


def _run_python_in_backward(_block: torch.nn.Module, _inputs: Any, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if isinstance(hidden, torch.Tensor) and hidden.requires_grad:
        hidden.register_hook(lambda _gradient: None)  # type: ignore[no-untyped-call]


class Limits(TrainerCallback):  # type: ignore[misc]
    """The recipe's limits: a share of the steps, minutes, and validations without a better loss."""

    def __init__(self, config: TrainConfig, history: History) -> None:
        self.config = config
        self.history = history

    def reached(self, minutes: float, state: TrainerState) -> StoppedBy | None:
        """The limit that is reached after ``minutes`` of training, if any."""
        fraction = self.config.stop_after_fraction
        if fraction < 1 and state.global_step >= math.ceil(fraction * state.max_steps):
            return "stop_after_fraction"
        patience = self.config.early_stopping_patience
        if patience and self.history.validations_without_improvement(self.config.early_stopping_threshold) >= patience:
            return "early_stopping"
        limit = self.config.max_train_minutes
        return "max_train_minutes" if limit is not None and minutes >= limit else None

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step > 0 and self.reached(0.0, state):
            control.should_save = True
            control.should_training_stop = True


class TimedCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Saves a checkpoint at least every ``minutes``: a lost node or an out-of-memory kill sends no signal first."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.last = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if any_process(time.monotonic() - self.last >= self.seconds):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = time.monotonic()
