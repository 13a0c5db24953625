"""Terms of llguidance's Lark grammars."""

from __future__ import annotations

import json


def lark_string(text: str) -> str:
    """The term that matches exactly ``text``, whatever characters are in it."""
    return json.dumps(text, ensure_ascii=False)
