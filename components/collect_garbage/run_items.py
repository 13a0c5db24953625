"""What below a store's ``runs/`` is Lorry's: notes of steps, figures, reports. Other programs name a folder so too."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from components.collect_garbage.items import reference
from components.storage.store import Store, StoredFile

# Kubeflow's id, kfp.local's, or the key of a schedule's runs.
_RUN = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+|[0-9a-f]{16}"
# The part after # is what an upload that was killed left in a folder.
_FILE = re.compile(rf"^runs/({_RUN})(?:\.json|/steps/[^/]+\.json|/sweep/.+)(?:#\d+)?$")
_DOCUMENT = re.compile(r"^runs/[^/]+(?:/steps/[^/]+)?\.json$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
MAX_DOCUMENT_BYTES = 2**20


def run_of(key: str) -> str | None:
    """The run whose file a key may be, by the key's form; None for a file that is not Lorry's."""
    found = _FILE.match(key)
    return found[1] if found else None


def needs_of_run(store: Store, files: Sequence[StoredFile]) -> list[str] | None:
    """The model that a run published; None where no file is figures or a note: then they are not Lorry's."""
    for file in files:
        if _DOCUMENT.match(file.key) and file.size_bytes <= MAX_DOCUMENT_BYTES:
            document = _read(store, file.key)
            if sha256 := _published(document):
                return [reference("model", sha256)]
            if _is_note(document):
                return []
    return None


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        found = json.loads(store.read(key))
    except (ValueError, FileNotFoundError):
        return {}
    return found if isinstance(found, dict) else {}


def _published(document: dict[str, Any]) -> str | None:
    """The model that a run's figures name."""
    model = document.get("model")
    sha256 = model.get("sha256") if isinstance(model, dict) else None
    return sha256 if isinstance(sha256, str) and _SHA256.match(sha256) else None


def _is_note(document: dict[str, Any]) -> bool:
    """Whether a document is the note of a step, also one of a later version: a run of that one is a run too."""
    return {"schema_version", "step", "state"} <= document.keys()
