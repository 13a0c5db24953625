"""TRL's SFTTrainer with Lorry's validation loss, durable checkpoints, progress lines and a clean stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from components.token_loss import Example, token_loss
from components.train_lora import checkpoints
from components.train_lora.history import History

log = logging.getLogger(__name__)

BEST = "best"


class LoraTrainer(SFTTrainer):  # type: ignore[misc]  # trl ships no types
    """Saves through ``checkpoints`` and validates through ``token_loss``."""

    def __init__(self, *, run_dir: Path, history: History, validation: Sequence[Example], keep: int, **rest: Any):
        super().__init__(**rest)
        self.run_dir = run_dir
        self.history = history
        self.validation = validation
        self.keep = keep

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the validation rows, token-weighted; write the history; keep the best weights."""
        measured = token_loss(
            self.model,
            self.validation,
            batch_size=self.args.per_device_eval_batch_size,
            pad_token_id=self.processing_class.pad_token_id,
        )
        step = self.state.global_step
        best_before = self.history.best()
        self.history.add(step=step, eval_loss=measured.loss, eval_tokens=measured.n_tokens)
        log.info("step %d/%d eval_loss %.4f", step, self.state.max_steps, measured.loss)
        if step > 0 and (best_before is None or measured.loss < best_before[1]):
            self.save_model(str(self.run_dir / checkpoints.STAGING / BEST))
            checkpoints.publish(self.run_dir, BEST, self.keep)
        metrics = {"eval_loss": measured.loss}
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        checkpoints.publish(self.run_dir, name, self.keep)
        log.info("step %d/%d checkpoint written", self.state.global_step, self.state.max_steps)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run_dir / checkpoints.STAGING)


class Progress(TrainerCallback):  # type: ignore[misc]
    """One plain line and one history entry whenever the trainer logs; validation at the last step."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.minutes_before = history.minutes()
        self.started = time.monotonic()
        self.first_step = 0
        self._mark = (0.0, 0.0)

    def minutes(self) -> float:
        """Wall-clock minutes of training until now, those of earlier invocations of the same run included."""
        return self.minutes_before + (time.monotonic() - self.started) / 60

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = time.monotonic()
        self.first_step = state.global_step
        self._mark = (self.started, 0.0)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0.0))
        since, tokens_since = self._mark
        rate = (tokens - tokens_since) / max(now - since, 1e-9)
        self._mark = (now, tokens)
        done = state.global_step - self.first_step
        left = (now - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        self.history.add(
            step=state.global_step,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens_per_second=round(rate, 1),
            minutes=self.minutes(),
        )
        log.info(
            "step %d/%d loss %.4f tokens/s %.0f left %d s", state.global_step, state.max_steps, logs["loss"], rate, left
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
            control.should_save = True


class SaveByTheClock(TrainerCallback):  # type: ignore[misc]
    """A checkpoint at least every ``minutes``: under KFP no signal announces the end."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if time.monotonic() - self.last >= self.seconds:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = time.monotonic()


class StopOnSigterm(TrainerCallback):  # type: ignore[misc]
    """SIGTERM ends training after the step it is in, with a checkpoint."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as a request for the time of the context; before and after, it ends the process as usual."""
        previous = signal.signal(signal.SIGTERM, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.requested:
            control.should_save = True
            control.should_training_stop = True
