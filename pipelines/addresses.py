"""Where data and models come from, told by the look of their address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from components.split_data.records import DATA_SUFFIXES

DEMO_BASE = "lorry://demo-base"

# Where a step on a cluster finds the volume of a claim.
VOLUMES = "/volumes"
CLAIM_SCHEME = "pvc://"
HUB_SCHEME = "hf://"

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_FILE_SUFFIXES = (*DATA_SUFFIXES, ".yaml", ".yml", ".txt")


def absolute(address: str, folder: Path) -> str:
    """A path made absolute from ``folder``; a hub id (``owner/name`` with no such path there) stays as it is.

    ``hf://owner/name`` and ``hf://datasets/owner/name`` are hub ids too, whatever lies in the folder.
    """
    if address.startswith(HUB_SCHEME):
        return address.removeprefix(HUB_SCHEME).removeprefix("datasets/")
    if "://" in address or (is_hub_id(address) and not (folder / address).exists()):
        return address
    return os.path.abspath(folder / address)


def is_hub_id(address: str) -> bool:
    """True for what looks like ``owner/name`` and not like a file."""
    return bool(_HUB_ID.match(address)) and not address.endswith(_FILE_SUFFIXES)


def is_local(address: str) -> bool:
    """True for a path of this machine."""
    return not is_hub_id(address) and "://" not in address


def claim_of(address: str | None) -> str | None:
    """The volume that ``pvc://claim/path`` names, or None for another address."""
    if address is None or not address.startswith(CLAIM_SCHEME):
        return None
    return address.removeprefix(CLAIM_SCHEME).partition("/")[0]


def claims_in(addresses: Iterable[str]) -> list[str]:
    """The volumes that addresses name, sorted."""
    return sorted({claim for address in addresses if (claim := claim_of(address))})


def in_pod(address: str) -> str:
    """Where a step finds what ``pvc://claim/path`` names; another address stays as it is."""
    return f"{VOLUMES}/{address.removeprefix(CLAIM_SCHEME)}" if claim_of(address) else address
