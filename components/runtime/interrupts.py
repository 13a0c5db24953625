"""SIGTERM and a closed terminal (SIGHUP) handled like Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt within the context; a signal that nohup ignores stays ignored."""
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, _interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
