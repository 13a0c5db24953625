"""Check that this user can write to volumes, whose group the kubelet sets where their storage class supports it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from components.errors import ClusterError

log = logging.getLogger(__name__)


def prepare(folders: list[Path]) -> None:
    """Write a file into each folder and remove it again.

    Raises:
        ClusterError: one cannot be written; the message has the command that an administrator runs.
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
        log.info("%s: user %d can write", folder, os.getuid())
