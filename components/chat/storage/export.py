"""A conversation as a file for its user."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from components.chat.storage.conversations import Conversation


def as_messages(system: str, turns: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """(role, content) pairs as servers and training take them; a question without an answer is joined to the next."""
    messages = [{"role": "system", "content": system}] if system.strip() else []
    for role, content in turns:
        if messages and messages[-1]["role"] == role == "user":
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": role, "content": content})
    return messages


def file_name(conversation: Conversation, kind: str) -> str:
    """A name of letters and digits of any script, after the title."""
    words = re.sub(r"\W+", "-", conversation.title).strip("-")
    return f"{words[:40] or 'chat'}.{kind}"


def as_markdown(conversation: Conversation) -> str:
    """For people: all turns, with the model and figures of each answer."""
    parts = [f"# {conversation.title}"]
    if conversation.system.strip():
        parts.append(f"*System prompt:* {conversation.system}")
    for turn in conversation.turns:
        head = "## User" if turn.role == "user" else f"## {turn.model}"
        parts += [head, turn.content]
        if turn.completion is not None and turn.completion.n_tokens:
            parts.append(f"*{turn.completion.status_line()}*")
    return "\n\n".join(parts) + "\n"


def as_rows(conversation: Conversation) -> str:
    """For programs: a line of JSON with ``messages`` up to the last answer, as ``split_data`` takes them."""
    messages = as_messages(conversation.system, [(turn.role, turn.content) for turn in conversation.turns])
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"
