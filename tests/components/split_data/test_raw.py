"""One record before its format is known, and the encoding of a file."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.split_data.raw import UTF_8, RawRecord, encoding_of, too_long
from tests.properties import quick


def test_a_value_is_given_as_it_is_and_bytes_are_parsed():
    value = {"a": [1, None]}
    assert RawRecord(1, value).read() is value
    assert RawRecord(1, json.dumps(value).encode()).read() == value


@quick
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_bytes_are_read_back(value):
    assert RawRecord(1, json.dumps(value).encode()).read() == value


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'{"a": "\xff"}', "not UTF-8 text (byte 8 of the line)"),
        (b"{broken", "not JSON (Expecting property name"),
        (b"", "not JSON (Expecting value at column 1)"),
        (b"[" * 100_000, "JSON that cannot be read"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "JSON that cannot be read (Exceeds the limit"),
    ],
)
def test_bytes_that_are_not_json_are_an_error_with_the_position(content, fact):
    with pytest.raises(ValueError, match=re.escape(fact)):
        RawRecord(1, content).read()


def test_a_problem_goes_before_the_value():
    with pytest.raises(ValueError, match="too many cells"):
        RawRecord(1, {"a": 1}, "too many cells").read()


def test_a_byte_order_mark_is_not_part_of_the_value():
    assert RawRecord(1, b'\xef\xbb\xbf{"a": 1}').read() == {"a": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_encoding_is_known_by_the_first_bytes(encoding):
    content = '{"a": "é"}'.encode(encoding)
    file = io.BufferedReader(io.BytesIO(content))
    assert content.decode(encoding_of(file)).lstrip("\ufeff") == '{"a": "é"}'
    assert file.read() == content


@pytest.mark.parametrize("content", [b"", b"a", "é".encode(), b"{}"])
def test_other_bytes_are_taken_for_utf_8(content):
    assert encoding_of(io.BufferedReader(io.BytesIO(content))) == UTF_8


def test_a_row_that_is_too_long_says_both_sizes():
    assert too_long(2_500_000).startswith("2.5 MB long; a row may have 1 MB")
