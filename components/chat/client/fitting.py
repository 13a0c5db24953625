"""Making a conversation fit into a model's context."""

from __future__ import annotations

from collections.abc import Sequence

from components.chat.storage.conversations import Turn

# Not as little as would do: the next question would have to leave out something again, and the server's prefix cache
# would hold nothing of it.
LONGEST_SHARE = 0.7


def shorter(turns: Sequence[Turn], *, n_needed: int) -> tuple[Turn, ...]:
    """The newest turns with fewer characters, from a question on; the last ``n_needed`` of them in any case.

    Nothing where no more can be left out.
    """
    most = LONGEST_SHARE * sum(len(turn.content) for turn in turns)
    for first in range(1, len(turns) - n_needed):
        if turns[first].role == "user" and sum(len(turn.content) for turn in turns[first:]) <= most:
            return tuple(turns[first:])
    return tuple(turns[-n_needed:]) if len(turns) > n_needed else ()
