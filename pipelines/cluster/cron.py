"""Cron lines: five fields as a person writes them, six as Kubeflow reads them, and the times at which they fire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from cronsim import CronSim, CronSimError

from components.errors import RecipeError

FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
EXAMPLE = '"30 2 * * 1" is Mondays at 02:30 UTC'
# What both Kubeflow's parser (robfig/cron) and cronsim read; cronsim's own L, W and # are none of Kubeflow's.
_FIELD = re.compile(r"[0-9*,/-]+|[0-9*,/a-z-]*[a-z]{3}[0-9*,/a-z-]*")


@dataclass(frozen=True)
class Cron:
    """A cron line that fires; UTC."""

    line: str

    @property
    def of_kubeflow(self) -> str:
        """The line with the seconds in front, and weekdays as Kubeflow counts them: 0 to 6, Sunday is 0."""
        *fields, weekday = self.line.split()
        if not weekday.startswith("*"):
            days = {int(str(day)) % 7 for day in CronSim(self.line, datetime.now(UTC)).weekdays}
            weekday = ",".join(str(day) for day in sorted(days))
        return " ".join(["0", *fields, weekday])

    def times(self, n: int, after: datetime) -> list[datetime]:
        """The next ``n`` times; fewer where fewer come in fifty years."""
        return list(islice(CronSim(self.line, after), n))


def read_cron(line: str) -> Cron:
    """The cron line that a person gave.

    Raises:
        RecipeError: it is malformed, or never fires.
    """
    fields = line.lower().split()
    if len(fields) != len(FIELDS):
        seconds = "; Lorry adds the seconds of Kubeflow's six itself" if len(fields) == 6 else ""
        raise RecipeError(
            f"--cron {line!r}: has {len(fields)} fields; give five: {' '.join(FIELDS)}{seconds}; {EXAMPLE}"
        )
    for number, (name, field) in enumerate(zip(FIELDS, fields, strict=True)):
        alone = ["*"] * len(FIELDS)
        alone[number] = field
        if not _FIELD.fullmatch(field) or not _is_read(" ".join(alone)):
            raise RecipeError(f"--cron {line!r}: {field!r} is no {name}; {EXAMPLE}")
    cron = Cron(" ".join(fields))
    if not _fires(cron):
        raise RecipeError(f"--cron {line!r}: never fires: no month that it names has such a day; correct the day")
    return cron


def cron_of_kubeflow(line: str) -> Cron | None:
    """The cron line of one of Kubeflow's, None where it has seconds or is in another form."""
    seconds, _, rest = line.partition(" ")
    try:
        return read_cron(rest) if seconds == "0" else None
    except RecipeError:
        return None


def _is_read(line: str) -> bool:
    """Whether cronsim reads a line of which one field is given."""
    try:
        CronSim(line, datetime.now(UTC))
    except (CronSimError, AssertionError):
        return False
    return True


def _fires(cron: Cron) -> bool:
    try:
        return bool(cron.times(1, datetime.now(UTC)))
    except CronSimError:
        return False
