"""The points and labels of the loss curves, and the picture."""

from __future__ import annotations

import math
import struct

import pytest

from components.compare_runs.chart import draw, label_of, points_of
from components.compare_runs.runs import Point
from tests.components.compare_runs.runs import a_run, compared


def test_points_are_at_their_steps_or_at_their_minutes():
    run = a_run("a", 0.9, math.nan, 0.7)
    assert points_of(run, by_minutes=False) == ([10, 30], [0.9, 0.7])
    assert points_of(run, by_minutes=True) == ([1, 3], [0.9, 0.7])


def test_a_point_without_minutes_is_left_out_where_minutes_count():
    run = a_run("a").model_copy(update={"curve": [Point(step=5, loss=1.0)]})
    assert points_of(run, by_minutes=True) == ([], [])
    assert points_of(run, by_minutes=False) == ([5], [1.0])


@pytest.mark.parametrize(
    ("changes", "label"),
    [({}, "a"), ({"status": "out_of_memory"}, "a (out of memory)"), ({"stopped_early": True}, "a (not continued)")],
)
def test_a_label_has_the_outcome(changes, label):
    assert label_of(a_run("a", 1.0, **changes)) == label


def test_each_set_has_a_panel(tmp_path):
    heights = []
    for number, runs in enumerate(([a_run("a", 1.0, 0.9)], [a_run("a", 1.0), a_run("b", 1.0, measured_on="other")])):
        path = tmp_path / f"{number}.png"
        draw(compared(*runs), path)
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        heights.append(struct.unpack(">I", content[20:24])[0])
    assert heights[1] == 2 * heights[0]


def test_runs_without_points_and_equal_minutes_are_drawn(tmp_path):
    draw(compared(a_run("a"), a_run("b", 1.0), at_minutes=1.0), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
