"""Ending a process with its parent, however the parent ended: a parent that is killed sends its children no signal.

The parent starts its child with ``stdin=subprocess.PIPE`` and keeps that end of the pipe open. The kernel closes it
when the parent is gone, and then the child reads the end of its standard input, as do the processes that inherited it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

# Set by a parent that holds the other end of standard input, for a child that may also be started without one.
END_WITH_STDIN = "LORRY_END_WITH_STDIN"


def call_on_parent_death(end: Callable[[], object]) -> None:
    """Call ``end`` in a thread of its own as soon as standard input is closed."""
    threading.Thread(target=_call_at_end_of_stdin, args=(end,), name="parent-death", daemon=True).start()


def _call_at_end_of_stdin(end: Callable[[], object]) -> None:
    # The descriptor itself: a thread inside sys.stdin would hold its lock when the interpreter ends.
    while os.read(0, 1):
        pass
    end()
