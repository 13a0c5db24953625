"""The loss of each of several models on the validation rows of each, where those rows differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.artifacts.run_record import read_record
from components.errors import ModelError
from components.evaluate.config import EvaluateConfig
from components.evaluate.model_pair import ModelPair


@dataclass(frozen=True)
class TrainedRun:
    """A run's name, adapter folder and file of validation rows."""

    name: str
    adapter_path: str
    validation_path: str


def measure_losses(runs: Sequence[TrainedRun], report: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """The tuned loss, in nats per token, of each run's model on each run's rows: by model, then by rows.

    Rows are cut to the largest ``max_length`` of the runs, so that every model is measured on the same tokens.

    Raises:
        ModelError: a base model or an adapter does not load, or two models tokenize the rows differently.
    """
    records = {run.name: read_record(run.adapter_path) for run in runs}
    longest = max(record.train["max_length"] for record in records.values())
    batch_size = EvaluateConfig().per_device_eval_batch_size
    found: dict[str, dict[str, float]] = {}
    tokens: dict[str, int] = {}
    for run in runs:
        pair = ModelPair(records[run.name].base_model, run.adapter_path, records[run.name], max_length=longest)
        found[run.name] = {}
        for rows in runs:
            measured = pair.tuned_loss(rows.validation_path, batch_size)
            if tokens.setdefault(rows.name, measured.n_tokens) != measured.n_tokens:
                raise ModelError(
                    f"{run.name}: tokenizes the rows of {rows.name} into {measured.n_tokens} tokens, and another model "
                    f"into {tokens[rows.name]}: losses per token do not compare; give runs of one tokenizer"
                )
            found[run.name][rows.name] = measured.loss
            report(f"{run.name} on the rows of {rows.name}: {measured.loss:.4f} over {measured.n_tokens} tokens")
    return found
