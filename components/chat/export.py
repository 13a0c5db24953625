"""A conversation as a file for its user."""

from __future__ import annotations

import json
import re

from components.chat.conversations import Conversation


def file_name(conversation: Conversation, kind: str) -> str:
    """A name of letters and digits of any script, after the title."""
    words = re.sub(r"\W+", "-", conversation.title).strip("-")
    return f"{words[:40] or 'chat'}.{kind}"


def as_markdown(conversation: Conversation) -> str:
    """For people: who said what, with model and figures."""
    parts = [f"# {conversation.title}"]
    if conversation.system.strip():
        parts.append(f"*System prompt:* {conversation.system}")
    for turn in conversation.turns:
        head = "## User" if turn.role == "user" else f"## {turn.model}"
        parts += [head, turn.content]
        if turn.answer is not None and turn.answer.n_tokens:
            parts.append(f"*{turn.answer.in_words()}*")
    return "\n\n".join(parts) + "\n"


def as_rows(conversation: Conversation) -> str:
    """For programs: a line of JSON with ``messages``, as ``split_data`` and OpenAI's API take them."""
    messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    if conversation.system.strip():
        messages.insert(0, {"role": "system", "content": conversation.system})
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"
