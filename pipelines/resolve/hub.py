"""Asking the model and data-set hub, with its refusals explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.errors import LorryError


def ask_hub(kind: str, address: str, look_up: Callable[[], Any], error_type: type[LorryError]) -> Any:
    """The hub's answer about a repository.

    Raises:
        error_type: it refuses or does not answer; the message has the next move.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return look_up()
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise error_type(
            f"{address}: no such file or folder here, and the hub gives no such {kind} ({first_line}); "
            "check the name, the network and HF_TOKEN, or give a local path"
        ) from error
