"""One answer of a model: its text, its figures and how it ended."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

STOPPED, BROKEN = "stopped", "broken"
ENDINGS = {
    "length": "cut at the length limit",
    STOPPED: "stopped",
    BROKEN: "broke off",
    "content_filter": "ended by the server's content filter",
    "tool_calls": "ended with a tool call, which this page does not support",
}
NOTHING_CAME = {
    STOPPED: "Stopped before the first word.",
    BROKEN: "Broke off before the first word.",
    "content_filter": "The server's content filter let no answer through.",
    "tool_calls": "The model called a tool, which this page does not support.",
}


@dataclass(frozen=True)
class Completion:
    """An answer as far as it has come. Seconds count from the request; ``n_tokens`` is the server's count at the end.

    ``finish_reason`` is the server's, or ``stopped`` (by the user) or ``broken`` (the stream ended without one);
    ``error`` is the server's reason for that. ``retry_seconds`` is how long the page waits before it asks a busy server
    again. ``reasoning`` is what a model wrote before its answer, if the server separates the two.
    """

    text: str = ""
    n_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    finish_reason: str | None = None
    retry_seconds: float | None = None
    reasoning: str = ""
    error: str = ""

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Completion:
        """The completion in a row of the table ``turn`` or ``candidate``."""
        seconds = row["seconds"] or 0.0
        return cls(row["content"], row["n_tokens"] or 0, row["first_token_seconds"], seconds, row["finish_reason"])

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first one, divided by the time they took; None if there are fewer than two tokens."""
        if self.first_token_seconds is None or self.n_tokens < 2:
            return None
        return (self.n_tokens - 1) / max(self.seconds - self.first_token_seconds, 1e-9)

    @property
    def can_continue(self) -> bool:
        """True if the model had more to say."""
        return bool(self.text) and self.finish_reason in ("length", STOPPED, BROKEN)

    def status_line(self) -> str:
        """One line to show below the answer."""
        if self.retry_seconds is not None:
            return f"The model server is busy; asking again in {self.retry_seconds:.0f} s…"
        if self.first_token_seconds is None:
            if self.finish_reason is None:
                return f"Reading your prompt… {self.seconds:.0f} s"
            return NOTHING_CAME.get(self.finish_reason, "The model had nothing to say.") + self._reason
        parts = [f"{self.n_tokens} token{'' if self.n_tokens == 1 else 's'}"]
        if not self.text and self.finish_reason is None:
            parts.insert(0, "Thinking…")
        elif not self.text:
            parts.insert(0, "The model only thought, and gave no answer")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        parts.append(f"first token after {self.first_token_seconds:.2f} s")
        parts.append(f"{self.seconds:.1f} s in all")
        if self.finish_reason in ENDINGS:
            parts.append(ENDINGS[self.finish_reason] + self._reason)
        return " · ".join(parts)

    @property
    def _reason(self) -> str:
        return f": {self.error}" if self.error else ""

    def appended_to(self, earlier: Completion) -> Completion:
        """This answer as the continuation of an earlier one: the texts and figures of both together."""
        if not earlier.text:
            return self
        return replace(
            self,
            text=earlier.text + self.text,
            n_tokens=earlier.n_tokens + self.n_tokens,
            first_token_seconds=earlier.first_token_seconds,
            seconds=earlier.seconds + self.seconds - (self.first_token_seconds or 0.0),
        )
