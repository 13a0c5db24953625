"""Addresses of data and models: paths, hub ids, buckets and PVCs, recognised by their form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from components.split_data.records import DATA_SUFFIXES

# Base models that come with Lorry: a real one from the package index, and a tiny one made on the spot for tests.
SMOLLM2 = "lorry://smollm2-135m-instruct"
TINY_BASE = "lorry://tiny-base"
SHIPPED_BASES = (SMOLLM2, TINY_BASE)

# Where a step on a cluster has the volumes of PVCs mounted.
VOLUMES = "/volumes"
CLAIM_SCHEME = "pvc://"
HUB_SCHEME = "hf://"

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_HUB_GGUF = re.compile(r"^([A-Za-z0-9][\w.-]*/[\w.-]+)/(.+\.gguf)$")
_FILE_SUFFIXES = (*DATA_SUFFIXES, ".yaml", ".yml", ".txt", ".gguf")


def absolute(address: str, folder: Path) -> str:
    """A path made absolute from ``folder``; a hub id (``owner/name`` with no such path there) stays as it is, and so
    does a file of one (``owner/name/model.gguf``).

    ``hf://owner/name`` and ``hf://datasets/owner/name`` are hub ids too, whatever lies in the folder.
    """
    if address.startswith(HUB_SCHEME):
        return address.removeprefix(HUB_SCHEME).removeprefix("datasets/")
    is_of_hub = is_hub_id(address) or hub_file(address) is not None
    if "://" in address or (is_of_hub and not (folder / address).exists()):
        return address
    return os.path.abspath(folder / address)


def is_hub_id(address: str) -> bool:
    """True for ``owner/name`` without a file's suffix."""
    return bool(_HUB_ID.match(address)) and not address.lower().endswith(_FILE_SUFFIXES)


def hub_file(address: str) -> tuple[str, str] | None:
    """Repository and path of a GGUF file in a repository of the hub, or None for another address."""
    found = _HUB_GGUF.match(address)
    return None if found is None else (found[1], found[2])


def is_made(address: str) -> bool:
    """True for a base model that becomes a folder of this machine first."""
    return address in SHIPPED_BASES or (address.endswith(".gguf") and "://" not in address)


def is_local(address: str) -> bool:
    """True for a path of this machine."""
    return not is_hub_id(address) and hub_file(address) is None and "://" not in address


def claim_of(address: str | None) -> str | None:
    """The PVC that ``pvc://claim/path`` names, or None for another address."""
    if address is None or not address.startswith(CLAIM_SCHEME):
        return None
    return address.removeprefix(CLAIM_SCHEME).partition("/")[0]


def claims_in(addresses: Iterable[str]) -> list[str]:
    """The PVCs that addresses name, sorted."""
    return sorted({claim for address in addresses if (claim := claim_of(address))})


def pod_path(address: str) -> str:
    """The path in a pod of what ``pvc://claim/path`` names; another address stays as it is."""
    return f"{VOLUMES}/{address.removeprefix(CLAIM_SCHEME)}" if claim_of(address) else address
