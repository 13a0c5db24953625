"""The record of a training run in its adapter folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from components.artifacts.contracts import RUN_RECORD_NAME, RunRecord
from components.errors import ModelError


def read_record(adapter_path: str) -> RunRecord:
    """The record of the run that wrote an adapter folder.

    Raises:
        ModelError: the folder has no record, or one of another schema version.
    """
    path = Path(adapter_path) / RUN_RECORD_NAME
    if not path.is_file():
        raise ModelError(f"{path}: no such file; this is not an adapter folder that train_lora finished")
    try:
        version = json.loads(path.read_bytes()).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); train again") from error
    if version != (own := RunRecord.model_fields["schema_version"].default):
        raise ModelError(
            f"{path}: has schema version {version}, and this version of Lorry reads {own}; train again with it"
        )
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {key}: {first['msg']}; train again with this version of Lorry") from error


def write_record(record: RunRecord, folder: Path) -> None:
    """Write the record of a run into its folder."""
    # Written to a temporary file first: several failing processes write it, and one may be killed while it writes.
    temporary = folder / f"{RUN_RECORD_NAME}.{os.getpid()}"
    temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / RUN_RECORD_NAME)
