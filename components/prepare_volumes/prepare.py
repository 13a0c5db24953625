"""Check that this user can write to volumes. The kubelet has just given them its group, where their class lets it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from components.errors import ClusterError

log = logging.getLogger(__name__)


def prepare(folders: list[Path]) -> None:
    """Write a file into each folder and remove it again.

    Raises:
        ClusterError: one cannot be written; the message says what its administrator does.
    """
    for folder in folders:
        probe = folder / f".lorry-probe-{os.getpid()}"
        try:
            probe.write_bytes(b"lorry")
            probe.unlink()
        except OSError as error:
            raise ClusterError(
                f"{folder}: user {os.getuid()} with group {os.getgid()} cannot write to this volume "
                f"({error.strerror}); its storage class ignores fsGroup: choose another, or have an administrator "
                f"run once, as root on the volume: chgrp {os.getgid()} . && chmod 2775 ."
            ) from error
        log.info("%s: can be written by user %d", folder, os.getuid())
