"""The card of a pushed model, made from what its run recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.artifacts.contracts import (
    FIGURES_NAME,
    GGUF_ANSWERS_NAME,
    MANIFEST_NAME,
    SAMPLES_NAME,
    TRIAL_NAME,
    ModelManifest,
    RunRecord,
    Trial,
)
from components.artifacts.run_record import read_record
from components.gguf.model import GgufModel
from components.train_lora.config import LOGGING_AND_SAVING, STOPPING
from pipelines.config.addresses import is_hub_id
from pipelines.local.workdir import RunResult

TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
MAX_ANSWERS = 10


def model_card(result: RunResult, repository: str) -> str:
    """The card as Markdown with the hub's head: base, licence, data, settings, losses, quantization, answers.

    Raises:
        ModelError: the run's record or file cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    record = read_record(str(result.adapter))
    manifest = ModelManifest.model_validate_json((result.model.parent / MANIFEST_NAME).read_bytes())
    trial = Trial.model_validate_json((result.folder / TRIAL_NAME).read_bytes())
    base = record.base_model.to_merge_into
    hub_id = base.address if is_hub_id(base.address) else base.published_as
    head = ModelCardData(
        base_model=hub_id,
        license=manifest.base_license or "other",
        datasets=[name for name in trial.data if is_hub_id(name)] or None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "gguf", "lorry"],
    )
    card = ModelCard.from_template(
        head,
        template_path=str(TEMPLATE),
        repository=repository,
        record=record,
        manifest=manifest,
        base=hub_id or Path(base.address).name,
        data=[name if is_hub_id(name) else name.rsplit("/", 1)[-1] for name in trial.data],
        settings=_settings(record),
        figures=json.loads((result.folder / FIGURES_NAME).read_bytes()),
        answers=_answers(result.folder),
        template=_chat_template(result),
    )
    return str(card)


def _settings(record: RunRecord) -> dict[str, Any]:
    left_out = LOGGING_AND_SAVING | STOPPING | {"per_device_eval_batch_size"}
    return {key: value for key, value in record.train.items() if key not in left_out and value is not None}


def _answers(folder: Path) -> list[dict[str, Any]]:
    """Turns with the answer of the pushed file, or of the model before quantization where that was not asked."""
    for name, model in ((GGUF_ANSWERS_NAME, "quantized"), (SAMPLES_NAME, "tuned")):
        path = folder / name
        answers = json.loads(path.read_bytes()) if path.is_file() else []
        if own := [answer for answer in answers if answer["model"] == model]:
            return own[:MAX_ANSWERS]
    return []


def _chat_template(result: RunResult) -> str:
    model = GgufModel(result.model, n_ctx=64)
    try:
        return str(model.template)
    finally:
        model.close()
