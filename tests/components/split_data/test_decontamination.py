"""Rows that contain the texts of benchmarks and prompts are found, and others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.split_data.config import DecontaminationConfig
from components.split_data.decontamination import ContaminationIndex, build_index
from components.split_data.ngrams import hash_words
from tests.properties import quick

PASSAGE = " ".join(f"word{i}" for i in range(20))


@pytest.fixture
def benchmark(tmp_path) -> Path:
    return tmp_path / "benchmark.txt"


def index_of(path: Path, *texts: str, ngram_words: int = 5) -> ContaminationIndex:
    """The index of ``texts``, one a line of a file."""
    path.write_text("\n\n".join(texts))
    return build_index(DecontaminationConfig(files=[str(path)], ngram_words=ngram_words))


def find(index: ContaminationIndex, *texts: str, roles: str = "") -> dict[int, str]:
    """Reasons by the position of the text; ``roles`` has a letter a text, u for the user."""
    is_user = np.array([role == "u" for role in roles or "u" * len(texts)], dtype=bool)
    return dict(index.find(hash_words(texts), is_user))


def test_a_text_that_shares_an_ngram_is_found_with_file_and_line(benchmark):
    index = index_of(benchmark, "something else entirely here now", PASSAGE)
    shared = " ".join(PASSAGE.split()[7:12])
    assert find(index, "nothing", f"before {shared} after") == {1: "shares 5 words in a row with benchmark.txt, line 3"}


def test_one_word_less_than_an_ngram_is_not_found(benchmark):
    assert find(index_of(benchmark, PASSAGE), " ".join(PASSAGE.split()[:4]) + " end") == {}


def test_case_and_line_breaks_do_not_hide_a_text(benchmark):
    assert list(find(index_of(benchmark, PASSAGE), PASSAGE.upper().replace(" ", "\n"))) == [0]


def test_long_texts_are_found_whoever_says_them(benchmark):
    assert list(find(index_of(benchmark, PASSAGE), PASSAGE, PASSAGE, roles="ua")) == [0, 1]


def test_a_short_text_is_found_only_as_a_whole_question(benchmark):
    index = index_of(benchmark, "Who drives the lorry?", ngram_words=13)
    texts = ("who drives THE lorry?", "Who drives the lorry?", "Say: who drives the lorry?")
    assert find(index, *texts, roles="uau") == {0: "is the same text as benchmark.txt, line 1"}


def test_texts_of_fewer_than_four_words_are_listed_and_not_searched_for(benchmark):
    index = index_of(benchmark, "Yes, certainly", "One two three four", ngram_words=5)
    assert index.too_short == ["benchmark.txt, line 1: Yes, certainly"]
    assert find(index, "Yes, certainly", "one two three four") == {1: "is the same text as benchmark.txt, line 3"}


def test_without_files_nothing_is_found():
    index = build_index(DecontaminationConfig())
    assert index.locations == []
    assert find(index, PASSAGE) == {}


def test_no_texts_are_searched_without_error(benchmark):
    assert find(index_of(benchmark, PASSAGE)) == {}


words = st.sampled_from([f"w{i}" for i in range(6)])


@quick
@given(st.lists(words, min_size=4, max_size=10), st.lists(words, max_size=12), st.integers(4, 6))
def test_a_text_is_found_exactly_if_it_shares_an_ngram(tmp_path_factory, benchmark_words, text, n):
    index = index_of(tmp_path_factory.mktemp("b") / "b.txt", " ".join(benchmark_words), ngram_words=n)
    grams = {tuple(benchmark_words[i : i + n]) for i in range(len(benchmark_words) - n + 1)}
    shares = any(tuple(text[i : i + n]) in grams for i in range(len(text) - n + 1))
    is_same = len(benchmark_words) < n and text == benchmark_words
    assert bool(find(index, " ".join(text))) == (shares or is_same)
