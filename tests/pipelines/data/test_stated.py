"""Tests of the statement of an answer by a text."""

from __future__ import annotations

import pytest

from ragtide.pipelines.data.stated import is_closed_answer, states_answer

TEXT = "Glenn Thompson is the chair since 2025-01-03.\n\nThe board has 1,200 members; Ann Lee, Version 1.2.\n"


@pytest.mark.parametrize(
    ("answer", "stated"),
    [
        ("Glenn Thompson", True),
        ("Thompson, Glenn", True),
        ("Miller, Glenn", False),
        ("Glenn Thompson and Ann Lee", True),
        ("Ann Lee; Glenn Thompson", True),
        ("Ann Lee; Sue Hill", False),
        ('["Ann Lee", "Glenn Thompson"]', True),
        ('{"chair": "Glenn Thompson", "since": "3 January 2025"}', True),
        ('{"chair": "Sue Hill"}', False),
        ("3 January 2025", True),
        ("January 3rd, 2025", True),
        ("3rd of January 2025", True),
        ("03.01.2025", True),
        ("4 January 2025", False),
        ("1200", True),
        ("1300", False),
        ("2.1", False),
        ("2", False),
        (", ", False),
    ],
)
def test_an_answer_is_stated_item_by_item_and_in_another_notation(answer: str, stated: bool) -> None:
    assert states_answer(TEXT, answer) is stated


@pytest.mark.parametrize(("answer", "closed"), [("Yes", True), ("no.", True), ("TRUE", True), ("Yes, it is", False)])
def test_an_answer_of_yes_or_no_is_closed(answer: str, closed: bool) -> None:
    assert is_closed_answer(answer) is closed
