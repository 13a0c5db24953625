"""Where data and models come from, told by the look of their address."""

from __future__ import annotations

import re
from pathlib import Path

from components.split_data.sources import FILE_SUFFIXES

DEMO_BASE = "lorry://demo-base"

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_FILE_SUFFIXES = (*FILE_SUFFIXES, ".yaml", ".csv", ".txt")


def absolute(address: str, folder: Path) -> str:
    """A path made absolute from ``folder``; a hub id (``owner/name`` with no such path there) stays as it is."""
    if address == DEMO_BASE or (is_hub_id(address) and not (folder / address).exists()):
        return address
    return str((folder / address).absolute())


def is_hub_id(address: str) -> bool:
    """True for what looks like ``owner/name`` and not like a file."""
    return bool(_HUB_ID.match(address)) and not address.endswith(_FILE_SUFFIXES)
