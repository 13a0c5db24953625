"""The progress of a run: log lines, history entries and TensorBoard files."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from components.errors import DivergedError
from components.train_lora.history import History
from components.train_lora.processes import any_process
from components.train_lora.stopping import Limits

log = logging.getLogger(__name__)

TENSORBOARD = "tensorboard"
LOWER = "lower train.learning_rate, or train.max_grad_norm"


class TrainingProgress(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Adds a history entry each step, logs a line every ``logging_steps``, and validates and saves at the last step."""

    def __init__(self, history: History, limits: Limits, logging_steps: int) -> None:
        self.history = history
        self.limits = limits
        self.logging_steps = logging_steps
        self.minutes_before = history.minutes()
        self.started = self.step_started = time.monotonic()
        self.first_step = 0
        self._tokens_before = 0.0
        self._since_line = (0.0, 0.0)  # tokens, seconds

    def minutes(self) -> float:
        """Wall-clock minutes of training until now, including earlier invocations of the same run."""
        return self.minutes_before + (time.monotonic() - self.started) / 60

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = time.monotonic()
        self.first_step = state.global_step
        self._tokens_before = 0.0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_started = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise DivergedError(f"training diverged: the loss is {logs['loss']} at step {state.global_step}; {LOWER}")
        now = time.monotonic()
        tokens = float(logs.get("num_tokens", 0.0)) - self._tokens_before
        self._tokens_before += tokens
        seconds = max(now - self.step_started, 1e-9)
        self.history.add(
            step=state.global_step,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=tokens,
            tokens_per_second=round(tokens / seconds, 1),
            minutes=self.minutes(),
        )
        self._since_line = (self._since_line[0] + tokens, self._since_line[1] + seconds)
        if state.global_step % self.logging_steps == 0 or state.global_step == state.max_steps:
            self._log_line(state, logs["loss"], now)

    def _log_line(self, state: TrainerState, loss: float, now: float) -> None:
        tokens, seconds = self._since_line
        self._since_line = (0.0, 0.0)
        left = (
            (now - self.started) / max(state.global_step - self.first_step, 1) * (state.max_steps - state.global_step)
        )
        if (limit := self.limits.config.max_train_minutes) is not None:
            left = min(left, 60 * max(limit - self.minutes(), 0.0))
        rate = tokens / max(seconds, 1e-9)
        log.info("step %d/%d loss %.4f tokens/s %.0f left %d s", state.global_step, state.max_steps, loss, rate, left)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        reached = self.limits.reached(self.minutes(), state)
        at_limit = any_process(reached in ("max_train_minutes", "stop_after_fraction"))
        if state.global_step >= state.max_steps or at_limit:
            control.should_evaluate = True
            control.should_save = True
            control.should_training_stop = True


class Tensorboard(TrainerCallback):  # type: ignore[misc]
    """Writes losses, learning rate and gradient norm as TensorBoard files."""

    def __init__(self, run_dir: Path) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(run_dir / TENSORBOARD))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        for name in ("loss", "learning_rate", "grad_norm"):
            if name in logs:
                self.writer.add_scalar(f"train/{name}", logs[name], state.global_step)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        self.writer.add_scalar("eval/loss", metrics["eval_loss"], state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.writer.close()
