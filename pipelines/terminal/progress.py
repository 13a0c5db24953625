"""What a person sees while a pipeline runs: a live line a step on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

_COUNT = re.compile(r"^(?:step|prompt|row) (\d+)/(\d+) ?(.*)$")


class Progress:
    """Follows the steps by name. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.minutes: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._live = RichProgress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.fields[step]:<12}"),
            TimeElapsedColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Draw no more: what is printed now stands below the steps."""
        self._live.stop()

    def started(self, step: str) -> None:
        """A step begins."""
        self._since[step] = time.monotonic()
        self._tasks[step] = self._live.add_task(step, total=None, step=step, detail="")
        self._plain(f"{step}: started")

    def line(self, step: str, text: str) -> None:
        """A step printed ``text``."""
        self._plain(f"{step}: {text}")
        if step not in self._tasks:
            return
        if match := _COUNT.match(text):
            self._live.update(self._tasks[step], completed=int(match[1]), total=int(match[2]))
            text = f"{match[1]}/{match[2]} {match[3]}"
        self._live.update(self._tasks[step], detail=text[: max(self.console.width - 60, 20)])

    def finished(self, step: str, seconds: float | None = None, detail: str = "") -> None:
        """A step succeeded, after ``seconds`` where another process measured them, with a ``detail`` of its result."""
        self.minutes[step] = (time.monotonic() - self._since[step] if seconds is None else seconds) / 60
        self._live.update(self._tasks[step], total=1, completed=1, detail=detail)
        self._plain(f"{step}: finished in {self.minutes[step] * 60:.1f} s{detail and ': '}{detail}")

    def reused(self, step: str) -> None:
        """A step was not needed: nothing that it depends on has changed."""
        self.minutes[step] = 0.0
        task = self._live.add_task(step, total=1, step=step, detail="unchanged, reused")
        # rich takes a task as finished by an update alone; its clock would go on.
        self._live.update(task, completed=1)
        self._tasks[step] = task
        self._plain(f"{step}: unchanged, reused")

    def failed(self, step: str, detail: str = "failed") -> None:
        """A step failed, or was ended."""
        if step in self._tasks:
            self._live.update(self._tasks[step], detail=detail)
        self._plain(f"{step}: {detail}")

    def note(self, text: str) -> None:
        """A line that no step printed."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _plain(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
