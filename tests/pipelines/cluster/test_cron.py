"""Cron lines: what Kubeflow gets, when they fire, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from components.errors import RecipeError
from pipelines.cluster.cron import cron_of_kubeflow, read_cron

# A Saturday.
NOW = datetime(2026, 11, 28, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "kubeflows"),
    [
        ("30 2 * * *", "0 30 2 * * *"),
        ("*/15 8-18 1,15 jan-MAR *", "0 */15 8-18 1,15 jan-mar *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * fri-7", None),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * MON-FRI", "0 0 0 * * 1,2,3,4,5"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
    ],
)
def test_five_fields_become_kubeflows_six(line, kubeflows):
    if kubeflows is None:
        kubeflows = "0 0 0 * * 0,5,6"
    cron = read_cron(line)
    assert cron.of_kubeflow == kubeflows


def test_the_next_times_are_those_of_the_line():
    assert read_cron("30 2 * * 1").times(2, NOW) == [
        datetime(2026, 11, 30, 2, 30, tzinfo=UTC),
        datetime(2026, 12, 7, 2, 30, tzinfo=UTC),
    ]
    # A day of the month and a weekday: either, as in cron.
    assert [time.day for time in read_cron("0 0 1 * 0").times(3, NOW)] == [29, 1, 6]
    assert read_cron("0 0 29 2 *").times(1, NOW) == [datetime(2028, 2, 29, tzinfo=UTC)]


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 2 *", "0 12 30-31 feb *"])
def test_a_line_that_never_fires_is_refused(line):
    with pytest.raises(RecipeError, match=r"^--cron '.*': never fires: no month that it names has such a day; "):
        read_cron(line)


def test_a_day_that_february_lacks_or_a_weekday_fires():
    assert read_cron("0 0 30 2 1").times(1, NOW) == [datetime(2027, 2, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "has 0 fields; give five: minute hour day-of-month month day-of-week; \"30 2 * * 1\" is Mondays"),
        ("@daily", "has 1 fields; give five"),
        ("0 30 2 * * 1", "has 6 fields; give five: minute hour day-of-month month day-of-week; Lorry adds the seconds"),
        ("60 2 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "'0' is no day-of-month"),
        ("0 0 L * *", "'l' is no day-of-month"),
        ("0 0 1w * *", "'1w' is no day-of-month"),
        ("0 0 * 13 *", "'13' is no month"),
        ("0 0 * jam *", "'jam' is no month"),
        ("0 0 * * 8", "'8' is no day-of-week"),
        ("0 0 * * 1#2", "'1#2' is no day-of-week"),
        ("*/0 0 * * *", "'*/0' is no minute"),
        ("5-1 0 * * *", "'5-1' is no minute"),
        ("1, 0 * * *", "'1,' is no minute"),
        ("1-2-3 0 * * *", "'1-2-3' is no minute"),
        ("-5 0 * * *", "'-5' is no minute"),
        ("0 0 ? * 1", "'?' is no day-of-month"),
        ("tomorrow at 5 please ok", "'tomorrow' is no minute"),
    ],
)  # fmt: skip
def test_a_malformed_line_names_its_field(line, said):
    with pytest.raises(RecipeError) as refused:
        read_cron(line)
    assert str(refused.value).startswith(f"--cron {line!r}: ")
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_line_of_kubeflows_is_read_back():
    cron = cron_of_kubeflow("0 30 2 * * 1")
    assert cron is not None
    assert cron.line == "30 2 * * 1"
    assert cron_of_kubeflow("15 30 2 * * 1") is None
    assert cron_of_kubeflow("@daily") is None
