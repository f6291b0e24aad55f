"""Tests that every pattern and loop over document text takes time in proportion to it, up to 256,000 characters.

`python -m bench.growth` measures them up to a million, which takes several times longer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from bench.growth import (
    READING_FUNCTIONS,
    Sizes,
    UsedPattern,
    growth_exponent,
    hostile_texts,
    used_patterns,
)

pytestmark = pytest.mark.long
USED, DYNAMIC = used_patterns()
PATTERN_SIZES, LOOP_SIZES = Sizes(16_000, 256_000), Sizes(8_000, 64_000)
# n log n is 1.05 here, and what is quadratic 2. The rest is for a loaded machine, whose caches are others' too.
LIMIT = 1.5


@pytest.mark.parametrize("used", USED, ids=[used.name for used in USED])
def test_a_pattern_takes_linear_time(used: UsedPattern) -> None:
    exponent, text = growth_exponent(used.apply, hostile_texts(used.pattern), PATTERN_SIZES)
    assert exponent < LIMIT, text


@pytest.mark.parametrize("name", READING_FUNCTIONS)
def test_a_loop_over_text_takes_linear_time(name: str) -> None:
    exponent, text = growth_exponent(READING_FUNCTIONS[name], hostile_texts(), LOOP_SIZES)
    assert exponent < LIMIT, text


def test_patterns_that_depend_on_a_value_are_known() -> None:
    """They are covered by functions above, or compiled here and matched by an engine with a limit of time."""
    assert [call.partition(":")[0] for call in DYNAMIC] == [
        "ragtide.pipelines.data.text",
        "ragtide.pipelines.evaluation.questions",
    ]


def test_all_patterns_are_found() -> None:
    assert len(USED) > 50
    assert {used.where.split(".")[2] for used in USED} >= {"data", "evidence", "training", "evaluation", "reports"}


@pytest.mark.parametrize(
    ("function", "is_linear"),
    [
        (lambda text: text.count("a"), True),
        (lambda text: [text.count("\0", at) for at in range(0, len(text), 20)], False),
        (lambda text: [text[at:] for at in range(0, len(text), 10)], False),
    ],
    ids=["linear", "quadratic", "quadratic in memory moved"],
)
def test_growth_is_measured(function: Callable[[str], object], is_linear: bool) -> None:
    exponent, _ = growth_exponent(function, [("a", partial(str.__mul__, "a"))], PATTERN_SIZES)
    assert (exponent < LIMIT) is is_linear


@pytest.mark.parametrize("pattern", [r":[\w:]+:`", r"!\[([^\]]*)\]\(", r"\s+$"])
def test_a_slow_pattern_is_seen(pattern: str) -> None:
    import re

    compiled = re.compile(pattern)
    used = UsedPattern("here", "search", compiled)
    exponent, _ = growth_exponent(used.apply, hostile_texts(compiled), PATTERN_SIZES)
    assert exponent > LIMIT
