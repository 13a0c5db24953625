"""Reading the record of a training run from its adapter folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from components.contracts import RUN_RECORD_NAME, RunRecord
from components.errors import ModelError


def read_record(adapter_path: str) -> RunRecord:
    """The record of the run that made an adapter folder.

    Raises:
        ModelError: the folder has no record, or one of another version.
    """
    path = Path(adapter_path) / RUN_RECORD_NAME
    if not path.is_file():
        raise ModelError(f"{path}: no such file; this is not an adapter folder that train_lora finished")
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {place}: {first['msg']}; train again with this version of Lorry") from error
