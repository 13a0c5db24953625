"""The number of threads beside neighbours on the node, with a clock and a count of waiting that are handed in."""

from __future__ import annotations

import pytest

from components.model_server.engine import thread_tuner
from components.model_server.engine.thread_tuner import ThreadTuner, seconds_waited_for_a_core


class Node:
    """Cores that neighbours take some of; what the threads wait follows from that."""

    def __init__(self, n_cores: int) -> None:
        self.n_cores = n_cores
        self.n_busy = 0
        self.now = 0.0
        self.waited = 0.0
        self.n_threads = n_cores
        self.history: list[int] = []

    def use(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.history.append(n_threads)

    def compute(self, threads: ThreadTuner, seconds: float) -> None:
        while seconds > 0:
            self.now += 0.1
            lacking = max(0, self.n_threads + self.n_busy - self.n_cores)
            self.waited += 0.1 * min(lacking, self.n_threads)
            threads.learn(0.1)
            seconds -= 0.1


def test_threads_give_way_to_neighbours_and_come_back_when_they_leave():
    node = Node(4)
    threads = ThreadTuner(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    node.compute(threads, 5)
    assert node.history == []
    node.n_busy = 2
    node.compute(threads, 1.2)
    assert threads.n_threads == 2
    node.compute(threads, 60)
    assert threads.n_threads == 2
    tries = sum(n == 3 for n in node.history)
    assert 1 <= tries <= 6, "ever more rarely"
    node.n_busy = 0
    node.compute(threads, 70)
    assert threads.n_threads == 4


def test_what_waited_before_the_computing_began_does_not_count():
    node = Node(4)
    threads = ThreadTuner(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    for _ in range(3):  # the model is loaded and warmed, or everybody is asleep, beside a neighbour
        node.now += 30
        node.waited += 20
        node.compute(threads, 5)
    assert node.history == []


def test_short_answers_far_apart_get_their_threads_back():
    node = Node(4)
    threads = ThreadTuner(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    node.n_busy = 3
    node.compute(threads, 5)
    assert threads.n_threads < 4
    node.n_busy = 0
    for _ in range(20):
        node.now += 10
        node.compute(threads, 0.3)
    assert threads.n_threads == 4


def test_where_linux_does_not_count_waiting_the_threads_stay():
    used: list[int] = []
    threads = ThreadTuner(4, used.append, waited=lambda: None)
    for _ in range(100):
        threads.learn(1.0)
    assert (threads.n_threads, used) == (4, [])


def test_waiting_is_counted_over_all_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(thread_tuner, "TASKS", tmp_path)
    for task, waited in (("1", 1_500_000_000), ("2", 500_000_000)):
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(f"123 {waited} 4\n")
    (tmp_path / "3").mkdir()  # it ended while they were counted
    assert seconds_waited_for_a_core() == 2.0


@pytest.mark.parametrize("content", ["", "1", "1 x 2"])
def test_where_linux_counts_otherwise_nothing_is_known(tmp_path, monkeypatch, content):
    monkeypatch.setattr(thread_tuner, "TASKS", tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "schedstat").write_text(content)
    assert seconds_waited_for_a_core() is None
    monkeypatch.setattr(thread_tuner, "TASKS", tmp_path / "none")
    assert seconds_waited_for_a_core() is None


def test_one_thread_is_never_given_up():
    node = Node(1)
    threads = ThreadTuner(1, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    node.n_busy = 5
    node.compute(threads, 30)
    assert (threads.n_threads, node.history) == (1, [])
