"""CSS that shows the state of a conversation: figures below each answer, and which buttons apply now.

The figures are not a part of the messages, because the button that copies an answer would copy them too. The buttons
are not switched by Gradio 6.31, which builds a component anew for an update of more than its value: with many users,
each would wait for all others. No upstream issue known.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.chat.storage.conversations import ChatTurn


def state_css(turns: Sequence[ChatTurn], *, running: bool = False, asks_why: bool = False) -> str:
    """A ``<style>`` for a conversation, and a ``#state`` that says whether an answer runs.

    ``asks_why`` shows the box for a note on an opinion.
    """
    answers = [turn for turn in turns if turn.role == "assistant"]
    rules = [
        f"#chat :nth-child({number} of .bot-row) .message-content::after {{ content: {_quoted(_figures(turn))}; }}"
        for number, turn in enumerate(answers, 1)
        if turn.completion is not None
    ]
    last = turns[-1].completion if turns else None
    if running or last is None or not last.can_continue:
        rules.append("#go-on { display: none; }")
    if not running:
        rules.append("#stop { opacity: .4; }")
    if not asks_why:
        rules.append("#why { display: none !important; }")
    state = "running" if running else "idle"
    return f'<style>{" ".join(rules)}</style><span id="state" data-state="{state}"></span>'


def _figures(turn: ChatTurn) -> str:
    assert turn.completion is not None
    return f"{turn.model} · {turn.completion.status_line()}" if turn.completion.n_tokens else turn.model


def _quoted(text: str) -> str:
    """A CSS string in which every character that could end it, or the ``<style>``, is escaped by its number."""
    return '"' + "".join(char if char.isalnum() or char in " .,/()-_" else f"\\{ord(char):x} " for char in text) + '"'
