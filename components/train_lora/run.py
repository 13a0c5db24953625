"""One invocation of a run: the model and trainer, the checkpoint it resumes from, and its results."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerState, set_seed

from components.artifacts.contracts import HISTORY_NAME, BaseModelRef, StoppedBy
from components.errors import ModelError
from components.modeling.base_model import load_weights
from components.modeling.cpu_linear import is_faster_here
from components.modeling.token_loss import Example, gives_chosen_logits
from components.runtime.memory import peak_memory
from components.train_lora import checkpoints
from components.train_lora.attention import Attention, choose_attention, use_attention
from components.train_lora.config import TrainConfig
from components.train_lora.cpu_lora import fuse_lora
from components.train_lora.device import Device
from components.train_lora.history import History
from components.train_lora.job import interrupted
from components.train_lora.processes import rank
from components.train_lora.progress import Tensorboard, TrainingProgress
from components.train_lora.settings import to_peft, to_trl
from components.train_lora.stopping import Interrupted, Limits, StopOnSigterm, TimedCheckpoints
from components.train_lora.targets import require_targets
from components.train_lora.trainer import BEST, LoraTrainer

log = logging.getLogger(__name__)


class Run:
    """Trains from the newest valid checkpoint, or from the first step, to the end that the recipe sets."""

    def __init__(
        self,
        config: TrainConfig,
        base_model: BaseModelRef,
        device: Device,
        tokenizer: PreTrainedTokenizerBase,
        run_dir: Path,
        examples: Sequence[Example],
        validation: Sequence[Example],
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.resumed_from = checkpoints.newest_valid(run_dir, run_dir.name)
        self.history = History(run_dir / HISTORY_NAME, self.resumed_from, writes=rank() == 0)
        self.limits = Limits(config, self.history)
        self.progress = TrainingProgress(self.history, self.limits, config.logging_steps)
        self.stop = StopOnSigterm()
        self.stopped_by: StoppedBy = "steps"
        # LoRA's first weights are random: the seed must be set before they are drawn.
        set_seed(config.seed)
        model, attention = _load_model(config, base_model, device)
        padding_free = attention.padding_free
        chosen_logits = _takes_chosen_logits(model, device, padding_free=padding_free)
        self.trainer = self._make_trainer(
            examples,
            validation,
            model=model,
            attention=attention.name,
            chosen_logits=chosen_logits,
            args=to_trl(config, device, run_dir, padding_free=padding_free, chosen_logits=chosen_logits),
            processing_class=tokenizer,
        )
        if device.precision == "float32" and is_faster_here():
            fuse_lora(self.trainer.model)
        self.stop.make_backward_interruptible(self.trainer.model)

    def _make_trainer(self, examples: Sequence[Example], validation: Sequence[Example], **rest: Any) -> LoraTrainer:
        """The trainer, with ``rest`` as its other arguments."""
        config = self.config
        rows = Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
        callbacks = [self.progress, self.limits, TimedCheckpoints(config.save_minutes), self.stop]
        trainer = LoraTrainer(
            run_dir=self.run_dir,
            run_key=self.run_dir.name,
            history=self.history,
            validation=validation,
            keep=config.save_total_limit,
            stop=self.stop,
            train_dataset=rows,
            eval_dataset=rows.select([0]),  # never read: LoraTrainer.evaluate measures the validation rows
            peft_config=to_peft(config),
            callbacks=[*callbacks, Tensorboard(self.run_dir)] if config.tensorboard and rank() == 0 else callbacks,
            **rest,
        )
        trainer.remove_callback(PrinterCallback)  # it prints every log as a dict, beside TrainingProgress's line
        # The checkpoint that is resumed from was measured when it was written.
        trainer.args.eval_on_start = self.resumed_from is None
        return trainer

    def train(self) -> None:
        """Train to the end.

        Raises:
            InterruptedTrainingError: SIGTERM came first.
        """
        with self.stop.handling_sigterm():
            try:
                self._train()
            except Interrupted:
                self.trainer.save_interrupted()
            state = self.trainer.state
            is_finished = self._is_finished()
        if self.stop.requested and not is_finished:
            raise interrupted(state.global_step, state.max_steps)

    def _train(self) -> None:
        if self.resumed_from:
            log.info("resuming from %s", self.resumed_from)
            self._load_checkpoint(self.resumed_from)
            self._evaluate_if_due()
            if self._is_finished():
                return
        self.trainer.train(resume_from_checkpoint=str(self.resumed_from) if self.resumed_from else None)

    def _load_checkpoint(self, checkpoint: Path) -> None:
        """Load weights and state: after the last step, Trainer itself would do one step more."""
        self.trainer._load_from_checkpoint(str(checkpoint))
        self.trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _evaluate_if_due(self) -> None:
        """Validate if the checkpoint's step should have been: SIGTERM can come between a step and its validation."""
        state = self.trainer.state
        at_end = state.global_step >= state.max_steps or self.limits.reached(0.0, state) == "stop_after_fraction"
        due = at_end or state.global_step % self.config.eval_steps == 0
        if due and state.global_step not in self.history.eval_losses():
            self.trainer.evaluate()

    def _is_finished(self) -> bool:
        """Whether the run is at its last step or at a limit of the recipe; ``stopped_by`` names that limit."""
        state = self.trainer.state
        if state.global_step < state.max_steps or not state.global_step:
            limit = self.limits.reached(self.progress.minutes(), state) if state.global_step else None
            # A limit ends the run with a validation; without one, training continues.
            if limit is None or state.global_step not in self.history.eval_losses():
                return False
            self.stopped_by = limit
        return True

    def write_adapter(self, folder: Path) -> None:
        """Write the weights that the recipe selects, the tokenizer and the history."""
        folder.mkdir(parents=True, exist_ok=True)
        self.trainer.save_model(str(folder))
        if self.config.checkpoint == "best" and (best := self.history.best()):
            checkpoints.require_undamaged(self.run_dir / f"{BEST}{best[0]}")
            shutil.copy(self.run_dir / f"{BEST}{best[0]}" / "adapter_model.safetensors", folder)
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; nothing downstream reads it
        shutil.copy(self.run_dir / HISTORY_NAME, folder / HISTORY_NAME)

    def figures(self) -> dict[str, Any]:
        """What was measured, as fields of RunRecord."""
        losses = self.history.eval_losses()
        best = self.history.best()
        parameters = list(self.trainer.model.parameters())
        return {
            "stopped_by": self.stopped_by,
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "total_parameters": sum(_n_weights(p) for p in parameters),
            "steps": self.trainer.state.global_step,
            "max_steps": self.trainer.state.max_steps,
            "minutes": self.progress.minutes(),
            "tokens_per_second": self.history.tokens_per_second(),
            "base_eval_loss": losses.get(0),
            "best_eval_loss": best[1] if best else None,
            "best_step": best[0] if best else None,
            "adapter_step": best[0] if best and self.config.checkpoint == "best" else self.trainer.state.global_step,
            "final_eval_loss": losses.get(self.trainer.state.global_step),
            "peak_memory_bytes": peak_memory(),
            "peak_gpu_memory_bytes": _peak_gpu_memory(),
        }


def _peak_gpu_memory() -> int | None:
    """The most that torch has allocated on one of the GPUs of this process; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return max(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))


def _load_model(config: TrainConfig, base_model: BaseModelRef, device: Device) -> tuple[PreTrainedModel, Attention]:
    """The base model with the attention that fits it and the device.

    Raises:
        ModelError: the model cannot be loaded, or not be trained with these settings.
    """
    model = load_weights(base_model, device.dtype, device.quantization)
    _require_known_quantization(model, base_model, device)
    require_targets(model, config.lora_target_modules, base_model.address)
    attention = choose_attention(model)
    use_attention(model, attention.name)
    if config.packing and not attention.padding_free:
        raise ModelError(f"train.packing: not with {base_model.address}: {attention.why}; set packing: false")
    return model, attention


def _takes_chosen_logits(model: PreTrainedModel, device: Device, *, padding_free: bool) -> bool:
    """Whether training computes logits at supervised positions only."""
    one_on_cpu = device.precision == "float32" and device.n_processes == 1
    # A mixture of experts has a loss of its own beside that of the tokens, which TRL adds.
    adds_to_loss = getattr(model.config, "output_router_logits", False)
    return one_on_cpu and padding_free and gives_chosen_logits(model) and not adds_to_loss


def _require_known_quantization(model: Any, base_model: BaseModelRef, device: Device) -> None:
    """Refuse packed weights without a full-precision model before hours of training: no adapter merges into them."""
    packed = getattr(model.config, "quantization_config", None) is not None
    if packed and device.quantization is None and base_model.full_precision is None:
        raise ModelError(f"base_model {base_model.address}: is in 4 bits; name the full weights in full_precision_base")


def _n_weights(parameter: Any) -> int:
    """The number of weights in a tensor; bitsandbytes packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())
