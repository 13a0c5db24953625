"""One invocation of a run: what it resumes from, the trainer, and what was measured."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerState, set_seed

from components.artifacts.contracts import HISTORY_NAME, BaseModelRef, StoppedBy
from components.errors import ModelError
from components.modeling.base_model import load_weights
from components.modeling.cpu_linear import is_faster_here
from components.modeling.token_loss import Example, gives_chosen_logits
from components.train_lora import checkpoints
from components.train_lora.attention import choose_attention, use_attention
from components.train_lora.config import TrainConfig
from components.train_lora.cpu_lora import fuse_lora
from components.train_lora.device import Device
from components.train_lora.history import History
from components.train_lora.job import interrupted
from components.train_lora.processes import rank
from components.train_lora.progress import Progress, Tensorboard
from components.train_lora.settings import to_peft, to_trl
from components.train_lora.stopping import Interrupted, Limits, SaveByTheClock, StopOnSigterm
from components.train_lora.targets import require_targets
from components.train_lora.trainer import BEST, LoraTrainer

log = logging.getLogger(__name__)


class Run:
    """Trains from the newest valid checkpoint, or from the start, to where the recipe ends."""

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
        self.device = device
        self.run_dir = run_dir
        self.resumed_from = checkpoints.newest_valid(run_dir, run_dir.name)
        self.history = History(run_dir / HISTORY_NAME, self.resumed_from, writes=rank() == 0)
        self.limits = Limits(config, self.history)
        self.progress = Progress(self.history, self.limits, config.logging_steps)
        self.stop = StopOnSigterm()
        # LoRA's first weights are random: the seed must be set before they are drawn.
        set_seed(config.seed)
        model = load_weights(base_model, device.dtype, device.quantization)
        _require_known_quantization(model, base_model, device)
        require_targets(model, config.lora_target_modules, base_model.address)
        attention = choose_attention(model)
        use_attention(model, attention.name)
        if config.packing and not attention.flat:
            raise ModelError(f"train.packing: not with {base_model.address}: {attention.why}; set packing: false")
        one_on_cpu = device.precision == "float32" and device.n_processes == 1
        # A mixture of experts has a loss of its own beside that of the tokens, which TRL adds.
        adds_to_loss = getattr(model.config, "output_router_logits", False)
        chosen_logits = one_on_cpu and attention.flat and gives_chosen_logits(model) and not adds_to_loss
        rows = Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
        callbacks = [self.progress, self.limits, SaveByTheClock(config.save_minutes), self.stop]
        self.trainer = LoraTrainer(
            run_dir=run_dir,
            run_key=run_dir.name,
            history=self.history,
            validation=validation,
            keep=config.save_total_limit,
            stop=self.stop,
            attention=attention.name,
            chosen_logits=chosen_logits,
            model=model,
            args=to_trl(config, device, run_dir, flat=attention.flat, chosen_logits=chosen_logits),
            train_dataset=rows,
            eval_dataset=rows.select([0]),  # never read: LoraTrainer.evaluate measures the validation rows
            processing_class=tokenizer,
            peft_config=to_peft(config),
            callbacks=[*callbacks, Tensorboard(run_dir)] if config.tensorboard and rank() == 0 else callbacks,
        )
        if device.precision == "float32" and is_faster_here():
            fuse_lora(self.trainer.model)
        self.trainer.remove_callback(PrinterCallback)  # it prints every log as a dict, beside Progress's line
        self.stop.watch(self.trainer.model)
        # The checkpoint that is resumed from was measured when it was written.
        self.trainer.args.eval_on_start = self.resumed_from is None
        self.stopped_by: StoppedBy = "steps"

    def go(self) -> None:
        """Train to the end.

        Raises:
            InterruptedTrainingError: SIGTERM came first.
        """
        with self.stop.listening():
            try:
                self._train()
            except Interrupted:
                self.trainer.save_interrupted()
            state = self.trainer.state
            ended = self._ended()
        if self.stop.requested and not ended:
            raise interrupted(state.global_step, state.max_steps)

    def _train(self) -> None:
        if self.resumed_from:
            log.info("resuming from %s", self.resumed_from)
            self._take(self.resumed_from)
            self._measure_if_due()
            if self._ended():
                return
        self.trainer.train(resume_from_checkpoint=str(self.resumed_from) if self.resumed_from else None)

    def _take(self, checkpoint: Path) -> None:
        """Take weights and state of a checkpoint: Trainer itself would do one step more when it is the last."""
        self.trainer._load_from_checkpoint(str(checkpoint))
        self.trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _measure_if_due(self) -> None:
        """Measure what was not: SIGTERM can come between a step and its validation."""
        state = self.trainer.state
        at_end = state.global_step >= state.max_steps or self.limits.reached(0.0, state) == "stop_after_fraction"
        due = at_end or state.global_step % self.config.eval_steps == 0
        if due and state.global_step not in self.history.eval_losses():
            self.trainer.evaluate()

    def _ended(self) -> bool:
        """Whether the run is where the recipe ends, by steps or a limit."""
        state = self.trainer.state
        if state.global_step < state.max_steps or not state.global_step:
            limit = self.limits.reached(self.progress.minutes(), state) if state.global_step else None
            # The end by the clock comes with a validation; without one, the steps go on.
            if limit is None or state.global_step not in self.history.eval_losses():
                return False
            self.stopped_by = limit
        return True

    def write_adapter(self, folder: Path) -> None:
        """Write the weights that the recipe asks for, tokenizer and history."""
        folder.mkdir(parents=True, exist_ok=True)
        self.trainer.save_model(str(folder))
        if self.config.checkpoint == "best" and (best := self.history.best()):
            checkpoints.require_whole(self.run_dir / f"{BEST}{best[0]}")
            shutil.copy(self.run_dir / f"{BEST}{best[0]}" / "adapter_model.safetensors", folder)
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; nothing downstream reads it
        shutil.copy(self.run_dir / HISTORY_NAME, folder / HISTORY_NAME)

    def figures(self) -> dict[str, Any]:
        """What was measured, under the names of RunRecord."""
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
        }


def _require_known_quantization(model: Any, base_model: BaseModelRef, device: Device) -> None:
    """Refuse weights that turn out to be packed, before hours of training on them: no adapter merges into them."""
    packed = getattr(model.config, "quantization_config", None) is not None
    if packed and device.quantization is None and base_model.full_precision is None:
        raise ModelError(f"base_model {base_model.address}: is in 4 bits; name the full weights in full_precision_base")


def _n_weights(parameter: Any) -> int:
    """Weights of a tensor; bitsandbytes packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())
