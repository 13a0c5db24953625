"""Shortening a conversation that does not fit into a model's context."""

from __future__ import annotations

from collections.abc import Sequence

from components.chat.storage.conversations import ChatTurn

# More is dropped than would have to be: otherwise the next question would drop a message again, and each drop makes the
# server's prefix cache useless.
SHARE_TO_KEEP = 0.7


def shortened(turns: Sequence[ChatTurn], *, n_needed: int) -> tuple[ChatTurn, ...]:
    """The newest turns, at most ``SHARE_TO_KEEP`` of the characters, beginning with a question.

    The last ``n_needed`` turns are kept in any case; empty if no other turn is left to drop.
    """
    most = SHARE_TO_KEEP * sum(len(turn.content) for turn in turns)
    for first in range(1, len(turns) - n_needed):
        if turns[first].role == "user" and sum(len(turn.content) for turn in turns[first:]) <= most:
            return tuple(turns[first:])
    return tuple(turns[-n_needed:]) if len(turns) > n_needed else ()
