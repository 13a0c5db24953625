"""Where data and models come from, told by the look of their address."""

from __future__ import annotations

import re
from pathlib import Path

from components.split_data.sources import FILE_SUFFIXES

DEMO_BASE = "lorry://demo-base"

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def is_hub_id(address: str) -> bool:
    """True for ``owner/name``, unless it ends like a data file or such a path is here."""
    return (
        bool(_HUB_ID.match(address)) and not address.endswith((*FILE_SUFFIXES, ".yaml")) and not Path(address).exists()
    )
