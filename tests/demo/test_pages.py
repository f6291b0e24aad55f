"""Are the demo's pages, questions and examples true to its facts?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from demo.pages import golden_rows, quarters, render_pages, training_rows, write_pages, write_rows
from pipelines.prove.score import holds


def test_there_are_four_quarters_of_about_sixty_products() -> None:
    assert len(quarters()) == 4
    assert all(55 <= len(render_pages(quarter)) <= 70 for quarter in quarters())


@pytest.mark.parametrize("quarter", quarters())
def test_every_answer_stands_in_its_page(quarter: str) -> None:
    pages = render_pages(quarter)
    golden, taught = golden_rows(quarter), training_rows(quarter)
    assert (len(golden), len(taught)) == (72, 240)
    assert all(holds(pages[row["docs"][0]], row["answers"]) for row in golden)
    assert all(holds(pages[row["doc"]], [row["completion"]]) for row in taught)


@pytest.mark.parametrize("quarter", quarters())
def test_no_product_is_both_taught_and_asked(quarter: str) -> None:
    asked = {row["docs"][0] for row in golden_rows(quarter)}
    assert not asked & {row["doc"] for row in training_rows(quarter)}


def test_the_same_questions_are_asked_each_quarter_and_about_half_the_answers_move_at_first() -> None:
    rows = [golden_rows(quarter) for quarter in quarters()]
    assert all([row["id"] for row in one] == [row["id"] for row in rows[0]] for one in rows)
    moved = [sum(old["answers"] != new["answers"] for old, new in zip(*pair, strict=True)) for pair in pairwise(rows)]
    assert moved[0] == 36
    assert all(count >= 10 for count in moved)


def test_pages_come_and_go_between_quarters() -> None:
    pages = [set(render_pages(quarter)) for quarter in quarters()]
    assert any(old - new for old, new in pairwise(pages))
    assert any(new - old for old, new in pairwise(pages))


def test_the_json_format_wraps_the_same_answers() -> None:
    quarter = quarters()[1]
    plain, as_json = training_rows(quarter), training_rows(quarter, "json")
    assert [f'{{"value": "{row["completion"]}"}}' for row in plain] == [row["completion"] for row in as_json]
    assert all("format" in row for row in golden_rows(quarter, "json"))


def test_writing_a_quarter_removes_the_pages_that_are_gone(tmp_path: Path) -> None:
    for quarter in quarters():
        write_pages(tmp_path, quarter)
        written = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.md")}
        assert written == render_pages(quarter)


def test_rows_are_written_one_a_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "deep/rows.jsonl", golden_rows(quarters()[0]))
    assert len((tmp_path / "deep/rows.jsonl").read_text("utf-8").splitlines()) == 72
