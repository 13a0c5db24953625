"""What the engine is made of, each part alone: places, pace, batches, threads, the queue, keys, schemas."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from components.errors import LorryError
from components.gguf.model import GgufModel
from components.model_server.engine.decode_batcher import Batches
from components.model_server.engine.fair_queue import FairQueue
from components.model_server.engine.prefill_budget import Pace
from components.model_server.engine.slots import Places, common_length
from components.model_server.engine.thread_tuner import Threads
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.guided_decoding.json_schema import SchemaError, to_text
from components.model_server.http.api_keys import ApiKeys
from tests.components.model_server.echo_model import EchoDecoder

LONG = list(range(100, 140))


def fill(places: Places, decoder: EchoDecoder, tokens: list[int]) -> int:
    """Read ``tokens`` into a place, as a scheduler does, and give it back; how many were shared."""
    place = places.take(tokens)
    assert decoder.memory[place.number] == place.tokens == tokens[: len(place.tokens)]
    n_shared = len(place.tokens)
    decoder.memory[place.number] += tokens[n_shared:]
    place.tokens += tokens[n_shared:]
    places.give_back(place)
    return n_shared


def test_the_last_token_of_a_prompt_is_never_shared():
    decoder = EchoDecoder(2, 64)
    places = Places(decoder, copies_bytes=10_000)
    assert fill(places, decoder, LONG) == 0
    assert fill(places, decoder, LONG) == len(LONG) - 1


def test_a_conversation_that_left_its_place_comes_back_from_its_copy():
    decoder = EchoDecoder(1, 64)
    places = Places(decoder, copies_bytes=10_000)
    other = list(range(200, 240))
    fill(places, decoder, LONG)
    fill(places, decoder, other)
    assert places.bytes_of_copies == 4 * len(LONG)
    assert fill(places, decoder, [*LONG, 7]) == len(LONG)
    assert fill(places, decoder, [*other, 8]) == len(other)


def test_copies_are_bounded_and_the_least_recently_used_goes_first():
    decoder = EchoDecoder(1, 64)
    places = Places(decoder, copies_bytes=2 * 4 * len(LONG))
    chats = [list(range(1000 * n, 1000 * n + len(LONG))) for n in range(1, 5)]
    for chat in chats:
        fill(places, decoder, chat)
    assert places.bytes_of_copies <= 2 * 4 * len(LONG)
    assert places.known([*chats[0], 1]) == 0
    assert places.known([*chats[2], 1]) == len(LONG)
    assert places.known([*chats[3], 1]) == len(LONG)


def test_a_taken_place_is_copied_and_never_given_away():
    decoder = EchoDecoder(2, 64)
    places = Places(decoder, copies_bytes=0)
    first = places.take(LONG)
    decoder.memory[first.number] += LONG
    first.tokens += LONG
    second = places.take([*LONG[:30], 5])
    assert second.number != first.number
    assert second.tokens == LONG[:30] == decoder.memory[second.number]
    assert first.tokens == LONG == decoder.memory[first.number]
    assert places.n_free == 0


def test_without_room_for_copies_nothing_is_kept_but_the_places():
    decoder = EchoDecoder(1, 64)
    places = Places(decoder, copies_bytes=0)
    fill(places, decoder, LONG)
    fill(places, decoder, list(range(200, 240)))
    assert places.bytes_of_copies == 0
    assert fill(places, decoder, LONG) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2, 3], [1, 9, 3], 1), ([5], [6], 0)],
)
def test_common_length(one, other, expected):
    assert common_length(one, other) == common_length(other, one) == expected


def test_the_pace_takes_the_largest_piece_that_fits_the_gap_and_learns():
    pace = Pace(gap_seconds=0.3, idle_gap_seconds=1.0, n_rows=512)
    for size in (16, 32, 64, 128):
        pace.prompt_rows_took(size, size * 0.003, start=0)
    assert pace.rows(answering_seconds=0.06, start=0) == 64
    assert pace.rows(answering_seconds=None, start=0) == 256
    for _ in range(20):  # a neighbour has come
        pace.prompt_rows_took(64, 0.4, start=0)
        pace.prompt_rows_took(32, 0.2, start=0)
        pace.prompt_rows_took(16, 0.1, start=0)
    assert pace.rows(answering_seconds=0.06, start=0) == 32


def test_prompts_get_as_long_as_answers_where_answers_alone_fill_the_gap():
    pace = Pace(gap_seconds=0.3, idle_gap_seconds=1.0, n_rows=512)
    for size in (16, 32, 64, 128):
        pace.prompt_rows_took(size, size * 0.003, start=0)
    assert pace.rows(answering_seconds=0.5, start=0) == 128


def test_a_crowd_of_prompts_lets_the_gap_grow_up_to_that_of_an_idle_server():
    pace = Pace(gap_seconds=0.3, idle_gap_seconds=1.0, n_rows=512)
    for size in (16, 32, 48, 64, 96, 128, 256):
        pace.prompt_rows_took(size, size * 0.003, start=0)
    assert [pace.rows(answering_seconds=0.06, start=0, n_reading=n) for n in (1, 2, 4, 99)] == [64, 128, 128, 256]


def test_a_smaller_piece_is_taken_where_its_rows_cost_clearly_less():
    pace = Pace(gap_seconds=0.5, idle_gap_seconds=1.0, n_rows=512)
    for size, seconds in ((16, 0.1), (32, 0.2), (48, 0.3), (64, 0.44), (96, 0.7)):
        pace.prompt_rows_took(size, seconds, start=0)
    assert pace.rows(answering_seconds=0.05, start=0) == 48


def test_far_into_a_prompt_a_piece_is_a_whole_tile_whatever_it_costs():
    pace = Pace(gap_seconds=0.3, idle_gap_seconds=1.0, n_rows=512)
    for size in (16, 32, 64, 128):
        pace.prompt_rows_took(size, size * 0.009, start=0)
    assert pace.rows(answering_seconds=0.06, start=0) == 16
    assert pace.rows(answering_seconds=0.06, start=2_500) == 64
    for _ in range(10):
        pace.prompt_rows_took(64, 0.05, start=2_500)
        pace.prompt_rows_took(128, 0.1, start=2_500)
    assert pace.rows(answering_seconds=0.06, start=2_500) == 256


def test_tokens_are_cut_into_the_batches_that_are_faster_together():
    batches = Batches()
    assert batches.sizes(8) == [8]
    for n_rows, seconds in {1: 0.027, 2: 0.045, 4: 0.075, 8: 0.206, 16: 0.25}.items():
        batches.took(n_rows, seconds)
    assert batches.sizes(8) == [4, 4]
    assert batches.sizes(16) == [16]
    assert batches.sizes(4) == [4]
    assert sum(batches.sizes(11)) == 11


def test_a_few_percent_are_noise_and_cut_nothing():
    batches = Batches()
    for n_rows, seconds in {1: 0.03, 4: 0.098, 8: 0.2}.items():
        batches.took(n_rows, seconds)
    assert batches.sizes(8) == [8]


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

    def compute(self, threads: Threads, seconds: float) -> None:
        while seconds > 0:
            self.now += 0.1
            lacking = max(0, self.n_threads + self.n_busy - self.n_cores)
            self.waited += 0.1 * min(lacking, self.n_threads)
            threads.computed(0.1)
            seconds -= 0.1


def test_threads_give_way_to_neighbours_and_come_back_when_they_leave():
    node = Node(4)
    threads = Threads(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    node.compute(threads, 5)
    assert node.history == []
    node.n_busy = 2
    node.compute(threads, 1.2)
    assert threads.n == 2
    node.compute(threads, 60)
    assert threads.n == 2
    tries = sum(n == 3 for n in node.history)
    assert 1 <= tries <= 6, "ever more rarely"
    node.n_busy = 0
    node.compute(threads, 70)
    assert threads.n == 4


def test_what_waited_before_the_computing_began_does_not_count():
    node = Node(4)
    threads = Threads(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    for _ in range(3):  # the model is loaded and warmed, or everybody is asleep, beside a neighbour
        node.now += 30
        node.waited += 20
        node.compute(threads, 5)
    assert node.history == []


def test_short_answers_far_apart_get_their_threads_back():
    node = Node(4)
    threads = Threads(4, node.use, waited=lambda: node.waited, clock=lambda: node.now)
    node.n_busy = 3
    node.compute(threads, 5)
    assert threads.n < 4
    node.n_busy = 0
    for _ in range(20):
        node.now += 10
        node.compute(threads, 0.3)
    assert threads.n == 4


def test_where_linux_does_not_tell_the_threads_stay():
    used: list[int] = []
    threads = Threads(4, used.append, waited=lambda: None)
    for _ in range(100):
        threads.computed(1.0)
    assert (threads.n, used) == (4, [])


def put(queue: FairQueue[str], key: str, item: str) -> bool:
    return queue.reserve(key) and queue.put(key, item)


def test_keys_take_turns_and_share_the_room():
    queue: FairQueue[str] = FairQueue(4, n_keys=2)
    assert [put(queue, "a", item) for item in ("a1", "a2", "a3")] == [True, True, False]
    assert put(queue, "b", "b1")
    assert [queue.take({}, 9) for _ in range(4)] == ["a1", "b1", "a2", None]


def test_the_key_that_holds_least_goes_first_and_one_that_holds_its_most_waits():
    queue: FairQueue[str] = FairQueue(9, n_keys=3)
    for item in ("a1", "b1", "c1", "a2", "b2"):
        assert put(queue, item[0], item)
    assert queue.take({"a": 2, "b": 1, "c": 3}, 3) == "b1"
    assert queue.take({"a": 2, "b": 2, "c": 3}, 3) == "a1"
    assert queue.take({"a": 3, "b": 3, "c": 3}, 3) is None
    assert len(queue) == 3


def test_room_that_is_reserved_counts_until_it_is_used_or_given_up():
    queue: FairQueue[str] = FairQueue(2)
    assert [queue.reserve("") for _ in range(3)] == [True, True, False]
    assert len(queue) == 0
    assert not queue.put("", None)
    assert queue.reserve("")
    assert queue.put("", "1")
    assert len(queue) == 1
    assert not queue.reserve("")


def test_a_crowd_that_comes_while_places_are_free_may_fill_those_too():
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


KEYS = ["a" * 24, "b" * 24]


def test_a_key_is_known_by_a_name_that_is_not_the_key(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# the team's\n{KEYS[0]}\n\n{KEYS[1]}\n")
    keys = ApiKeys.from_file(path)
    assert len(keys) == 2
    assert keys.name_of(f"Bearer {KEYS[0]}".encode()) == "key-2"
    assert keys.name_of(f"bearer {KEYS[1]}".encode()) == "key-4"
    for wrong in ("", KEYS[0], f"Basic {KEYS[0]}", "Bearer ", f"Bearer {KEYS[0]}x", "Bearer \xff", "Bearer \ud800"):
        assert keys.name_of(wrong.encode(errors="surrogatepass")) is None
    assert ApiKeys({}).name_of(b"") == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "holds no API key; write one a line, or serve without the file"),
        ("short\n", "the key of line 1 has fewer than 16 characters; make one: openssl rand -hex 24"),
        (
            "# ours\nключ-из-букв-не-латинских\n",
            "the key of line 2 has characters that clients cannot send in a header",
        ),
        ("a-key\twith-a-tab-in-it\n", "the key of line 1 has characters that clients cannot send in a header"),
        (None, r"the API keys cannot be read \(.*\); give a file with one key a line"),
    ],
)
def test_a_file_without_good_keys_is_refused(tmp_path, content, message):
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LorryError, match=message):
        ApiKeys.from_file(path)


@pytest.fixture(scope="module")
def grammars(tiny_run) -> Iterator[Grammars]:
    model = GgufModel(tiny_run.model, n_ctx=64)
    yield Grammars(model)
    model.close()


def test_a_schema_is_taken(grammars):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert not grammars.of_schema(to_text(schema)).is_accepting()


def doubling(depth: int) -> dict[str, object]:
    """Small to write, and twice as much at every level for whoever writes it out."""
    levels = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(depth)}
    return {"anyOf": [{"$ref": "#/$defs/a0"}], "$defs": {**levels, f"a{depth}": {"type": "null"}}}


HOSTILE: dict[str, dict[str, object]] = {
    "elsewhere": {"$ref": "http://127.0.0.1/schema.json"},
    "nowhere": {"$ref": "#/nowhere"},
    "an unknown type": {"type": "fish"},
    "a pattern that is none": {"type": "string", "pattern": "^(a"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_in_words(grammars, name):
    with pytest.raises(
        SchemaError, match=r"response_format: the schema (cannot be followed \(.*\); simplify it|holds half)"
    ):
        grammars.of_schema(to_text(HOSTILE[name]))


def test_a_long_schema_and_half_a_character_are_refused():
    with pytest.raises(SchemaError, match=r"has 200\d\d bytes, more than 16384; shorten it"):
        to_text({"description": "x" * 20_000})
    with pytest.raises(SchemaError, match="the schema holds half a character"):
        to_text(json.loads('{"const": "\\ud800"}'))


ODD: dict[str, dict[str, object]] = {
    "a pattern without end": {"type": "string", "pattern": "^a{0,999999999}$"},
    "doubling": doubling(50),
    "many values": {"enum": [f"value {number}" for number in range(900)]},
    "many optional properties": {"type": "object", "properties": {f"!{'@' * n}": {} for n in range(150)}},
    "a long list": {"type": "array", "items": {"type": "null"}, "minItems": 100_000},
    "half a character in a pattern": {"type": "string", "pattern": "^\\ud800$"},
    "a character of value 0": {"const": "\x00"},
    "backslashes and pictures": {"const": "C:\\new \U0001f600"},
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_schema_is_refused_or_followed_within_bounds(grammars, name):
    with contextlib.suppress(SchemaError):
        assert any(grammars.of_schema(to_text(ODD[name])).compute_bitmask())
