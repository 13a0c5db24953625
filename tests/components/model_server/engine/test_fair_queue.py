"""The queue of waiting requests: bounded, and fair between API keys."""

from __future__ import annotations

from components.model_server.engine.fair_queue import FairQueue


def put(queue: FairQueue[str], key: str, item: str) -> bool:
    return queue.reserve(key) and queue.put(key, item)


def test_keys_take_turns_and_share_the_capacity():
    queue: FairQueue[str] = FairQueue(4, n_keys=2)
    assert [put(queue, "a", item) for item in ("a1", "a2", "a3")] == [True, True, False]
    assert put(queue, "b", "b1")
    assert [queue.take({}, 9) for _ in range(4)] == ["a1", "b1", "a2", None]


def test_the_key_that_holds_least_goes_first_and_one_that_holds_the_maximum_waits():
    queue: FairQueue[str] = FairQueue(9, n_keys=3)
    for item in ("a1", "b1", "c1", "a2", "b2"):
        assert put(queue, item[0], item)
    assert queue.take({"a": 2, "b": 1, "c": 3}, 3) == "b1"
    assert queue.take({"a": 2, "b": 2, "c": 3}, 3) == "a1"
    assert queue.take({"a": 3, "b": 3, "c": 3}, 3) is None
    assert len(queue) == 3


def test_capacity_that_is_reserved_counts_until_it_is_used_or_given_up():
    queue: FairQueue[str] = FairQueue(2)
    assert [queue.reserve("") for _ in range(3)] == [True, True, False]
    assert len(queue) == 0
    assert not queue.put("", None)
    assert queue.reserve("")
    assert queue.put("", "1")
    assert len(queue) == 1
    assert not queue.reserve("")


def test_a_crowd_that_comes_while_slots_are_free_may_fill_those_too():
    queue: FairQueue[str] = FairQueue(2, n_keys=2)
    assert [queue.reserve(key, 3) for key in "aaaaab"] == [True] * 4 + [False, True]
    assert not queue.reserve("b", 3)
    assert not queue.reserve("b")


def test_what_is_unwanted_can_be_removed_and_a_closed_queue_takes_nothing():
    queue: FairQueue[str] = FairQueue(3)
    assert [put(queue, key, item) for key, item in (("", "1"), ("", "2"), ("b", "3"))] == [True] * 3
    assert queue.remove(lambda item: item in "13") == ["1", "3"]
    assert queue.remove(lambda item: item == "1") == []
    assert queue.close() == ["2"]
    assert not put(queue, "", "4")
    assert (len(queue), queue.take({}, 9)) == (0, None)
