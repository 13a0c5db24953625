"""TRL's SFTTrainer with Lorry's validation loss, durable checkpoints, padding-free batches and a clean stop."""

from __future__ import annotations

import logging
import math
import random
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from components.errors import DivergedError
from components.modeling.token_loss import Example, TokenLoss, token_loss
from components.train_lora import checkpoints
from components.train_lora.advice import MEASURING
from components.train_lora.attention import with_sequence_bounds
from components.train_lora.history import History
from components.train_lora.processes import barrier, n_processes, rank, sum_over_processes
from components.train_lora.progress import LOWER
from components.train_lora.stopping import StopOnSigterm
from components.train_lora.supervised_loss import supervised_loss

log = logging.getLogger(__name__)

BEST = "best-"
# Training has diverged when the validation loss is this many times the base's and was never below it.
DIVERGED = 2.0


class LoraTrainer(SFTTrainer):  # type: ignore[misc]  # trl ships no types
    """Saves through ``checkpoints`` and validates through ``token_loss``.

    ``chosen_logits``: batches are padding-free, and logits are computed at supervised positions only.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        run_key: str,
        history: History,
        validation: Sequence[Example],
        keep: int,
        stop: StopOnSigterm,
        attention: str,
        chosen_logits: bool,
        **rest: Any,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # TRL warns of every attention but FlashAttention that packed rows see each other; see attention.py.
            logging.getLogger("trl").setLevel(logging.ERROR)
            super().__init__(**rest)
        self.run_dir = run_dir
        self.run_key = run_key
        self.history = history
        self.validation = validation
        self.keep = keep
        self.stop = stop
        self.attention = attention
        self.chosen_logits = chosen_logits
        self.random_state = RandomState()
        self.add_callback(self.random_state)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                # TRL makes a 4-bit base's adapter bfloat16, which a T4 lacks and which rounds small updates away.
                parameter.data = parameter.data.float()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One micro-batch forward and backward, which SIGTERM can interrupt.

        Raises:
            Interrupted: SIGTERM came.
        """
        with self.stop.interruptible():
            loss: torch.Tensor = super().training_step(*args, **kwargs)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one micro-batch; with ``chosen_logits``, unsupervised positions get no logits."""
        if not self.chosen_logits or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # Counted as in TRL; TrainingProgress reads the count from the log.
        self._total_train_tokens += inputs["position_ids"].shape[1]
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return supervised_loss(model, inputs, num_items_in_batch)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return with_sequence_bounds(super()._prepare_inputs(inputs), self.attention)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the token-weighted validation loss, publish the weights if it is the best, and add it to the history.

        Raises:
            Interrupted: SIGTERM came.
        """
        with self.stop.interruptible():
            measured = self._measure()
        step = self.state.global_step
        best_before = self.history.best()
        if step > 0 and math.isfinite(measured.loss) and (best_before is None or measured.loss < best_before[1]):
            self.save_model(str(self.run_dir / checkpoints.STAGING / f"{BEST}{step}"))
            self._publish(f"{BEST}{step}")
        self.history.add(step=step, eval_loss=measured.loss, eval_tokens=measured.n_tokens)
        log.info("step %d/%d eval_loss %.4f", step, self.state.max_steps, measured.loss)
        self._require_converging(step, measured.loss)
        metrics = {"eval_loss": measured.loss}
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _require_converging(self, step: int, loss: float) -> None:
        base = self.history.eval_losses().get(0)
        comparison = "" if base is None else f", that of the untuned base is {base:.4g}"
        diverged = f"training diverged: the validation loss is {loss:.4g} at step {step}{comparison}"
        best = self.history.best()
        has_learned = base is not None and best is not None and best[1] < base
        is_far = base is not None and loss > DIVERGED * base and not has_learned
        if not math.isfinite(loss) or is_far:
            raise DivergedError(f"{diverged}; {LOWER}")
        if self.history.has_stopped_learning():
            raise DivergedError(f"{diverged}, and every gradient since the last validation is zero; {LOWER}")

    def _measure(self) -> TokenLoss:
        """The validation loss over all rows; each process measures its share of them."""
        try:
            # As in a step: the first validation of a resumed run comes before accelerate has wrapped the model.
            with self.accelerator.autocast():
                own = token_loss(
                    self.model,
                    self.validation[rank() :: n_processes()],
                    batch_size=self.args.per_device_eval_batch_size,
                    pad_token_id=self.processing_class.pad_token_id,
                )
        except (RuntimeError, MemoryError) as error:
            error.add_note(MEASURING)
            raise
        if n_processes() == 1:
            return own
        total, n_tokens = sum_over_processes([own.loss * own.n_tokens, own.n_tokens])
        return TokenLoss(total / max(n_tokens, 1), round(n_tokens))

    def _publish(self, name: str) -> None:
        """Publish a staged folder once every process has written its files."""
        barrier()
        if rank() == 0:
            checkpoints.publish(self.run_dir, name, self.run_key, self.keep)
        barrier()

    def save_interrupted(self) -> None:
        """Write the checkpoint of the last finished step after the next one was interrupted."""
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        if self.random_state.saved is None or (self.run_dir / name).is_dir():
            return  # no step was finished since the newest checkpoint
        self.random_state.restore()
        self._save_checkpoint(self.model, trial=None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        if rank() == 0:
            self.history.save(self.run_dir / checkpoints.STAGING / name)
        self._publish(name)
        if rank() == 0:
            self._remove_outdated_bests()
        log.info("step %d/%d checkpoint written", self.state.global_step, self.state.max_steps)

    def _remove_outdated_bests(self) -> None:
        """Remove published best weights that are not the best of this history or of a kept checkpoint's."""
        folders = checkpoints.newest_first(self.run_dir)
        histories = [History(path / self.history.path.name, path, writes=False) for path in folders]
        named = {f"{BEST}{best[0]}" for history in (self.history, *histories) if (best := history.best())}
        for folder in self.run_dir.glob(f"{BEST}*"):
            if folder.name not in named:
                shutil.rmtree(folder)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run_dir / checkpoints.STAGING)


class RandomState(TrainerCallback):  # type: ignore[misc]
    """Saves the state of all random generators after each step, for a checkpoint written after an interrupted one."""

    def __init__(self) -> None:
        self.saved: tuple[Any, ...] | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        self.saved = (random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpu)

    def restore(self) -> None:
        """Restore the saved state."""
        assert self.saved is not None
        python, numpy, cpu, on_gpu = self.saved
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
