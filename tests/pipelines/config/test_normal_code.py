"""Sources that compute the same have one normal form, and others do not."""

from __future__ import annotations

import pytest

from pipelines.config.normal_code import normal_code

SOURCE = '''
"""The module."""
import logging

log = logging.getLogger(__name__)


class Config:
    """A config."""

    rank: int = Field(16, description="LoRA r")


def f(n):
    """The docstring."""
    log.info("n is %d", n)
    if n > 3:
        raise ValueError(f"{n} is too much", {"n": n})
    return About(description="a fine-tune", n=n)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("The docstring.", "Other words."),
        ("A config.", "Other words."),
        ("The module.", "Other words."),
        ("    return", "    # a comment\n\n    return"),
        ("n is %d", "step %d"),
        ("{n} is too much", "{n} cannot be"),
        ("LoRA r", "the rank"),
        ("f(n)", "f( n )"),
        ("import logging", "import  logging"),
    ],
)
def test_words_and_formatting_are_left_out(old, new):
    assert old in SOURCE
    assert normal_code(SOURCE.replace(old, new)) == normal_code(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n > 3", "n > 4"),
        ("ValueError", "TypeError"),
        ('{"n": n}', '{"m": n}'),
        ("a fine-tune", "another fine-tune"),
        ("Field(16", "Field(32"),
        ("def f", "def g"),
        ("import logging", "import math"),
    ],
)
def test_what_can_change_a_result_stays(old, new):
    assert old in SOURCE
    assert normal_code(SOURCE.replace(old, new)) != normal_code(SOURCE)


def test_the_defaults_of_a_config_are_left_out_and_its_bounds_stay():
    source = "class C:\n    rank: Annotated[int, Field(gt=0)] = 16\n"
    other_default, other_bound = source.replace("16", "32"), source.replace("gt=0", "gt=1")
    assert normal_code(other_default, is_config=True) == normal_code(source, is_config=True)
    assert normal_code(other_default) != normal_code(source)
    assert normal_code(other_bound, is_config=True) != normal_code(source, is_config=True)


def test_a_body_of_words_alone_is_an_empty_one():
    assert normal_code('def f():\n    """Words."""\n') == normal_code("def f():\n    pass\n")
