"""Reading the record of a training run from its adapter folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from components.artifacts.contracts import RUN_RECORD_NAME, RunRecord
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
        version = json.loads(path.read_bytes()).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); train again") from error
    if version != (own := RunRecord.model_fields["schema_version"].default):
        raise ModelError(
            f"{path}: is of schema version {version}, and this Lorry reads {own}; train again with this Lorry"
        )
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {place}: {first['msg']}; train again with this version of Lorry") from error


def write_record(record: RunRecord, folder: Path) -> None:
    """Write the record of a run into its folder."""
    # Written aside: of several processes that fail each writes it, and one may be ended on the way.
    aside = folder / f"{RUN_RECORD_NAME}.{os.getpid()}"
    aside.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(aside, folder / RUN_RECORD_NAME)
