"""Tests of the demo's data: pages, golden questions and training examples agree with the facts."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.pages import (
    golden_products,
    golden_rows,
    main,
    quarters,
    read_facts,
    render_pages,
    training_products,
    training_rows,
    write_pages,
    write_quarter,
    write_rows,
)
from ragtide.pipelines.data.text import holds_answer


def read_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_four_quarters_of_about_sixty_products() -> None:
    assert len(quarters()) == 4
    assert all(55 <= len(render_pages(quarter)) <= 70 for quarter in quarters())


@pytest.mark.parametrize("quarter", quarters())
def test_every_answer_occurs_in_its_page(quarter: str) -> None:
    pages = render_pages(quarter)
    golden, training = golden_rows(quarter), training_rows(quarter)
    assert (len(golden), len(training)) == (60, 80)
    assert all(holds_answer(pages[row["docs"][0]], row["answers"]) for row in golden)
    assert all(holds_answer(pages[row["doc"]], [row["completion"]]) for row in training)


@pytest.mark.parametrize("quarter", quarters())
def test_every_answer_occurs_under_the_heading_that_its_question_names(quarter: str) -> None:
    pages = render_pages(quarter)
    asked = [(str(row["question"]), row["answers"], row["docs"][0]) for row in golden_rows(quarter)]
    asked += [(str(row["prompt"]), [row["completion"]], row["doc"]) for row in training_rows(quarter)]
    for question, answers, doc in asked:
        line = re.search(r"(?:release of|When does) (.+?)(?: reach end of life)?\?$", question)
        assert line, question
        heading = f"## {line[1]}\n"
        assert pages[doc].count(heading) == 1
        assert holds_answer(pages[doc].split(heading)[1].split("\n## ")[0], answers), question
        assert not holds_answer(question, answers), f"the question contains its answer: {question}"


@pytest.mark.parametrize("quarter", quarters())
def test_no_question_occurs_twice_in_a_quarter(quarter: str) -> None:
    asked = [row["question"] for row in golden_rows(quarter)] + [row["prompt"] for row in training_rows(quarter)]
    assert len(asked) == len(set(asked))


def test_a_product_has_examples_or_golden_questions_or_is_missing_in_a_quarter() -> None:
    pages = [{Path(page).stem for page in render_pages(quarter)} for quarter in quarters()]
    assert not set(golden_products()) & set(training_products())
    assert {*golden_products(), *training_products()} == set.intersection(*pages)
    assert len(set.union(*pages) - set.intersection(*pages)) == 4


@pytest.mark.parametrize("quarter", quarters())
def test_golden_questions_and_examples_cover_their_products_and_no_others(quarter: str) -> None:
    asked = {Path(doc).stem for row in golden_rows(quarter) for doc in row["docs"]}
    trained_on = {Path(row["doc"]).stem for row in training_rows(quarter)}
    assert asked == set(golden_products())
    assert trained_on == set(training_products())


def test_all_values_are_dates_or_versions() -> None:
    values = {value for fact in read_facts() for value in (fact.released, fact.eol, fact.latest) if value}
    assert not [value for value in values if not re.fullmatch(r"\d{4}-\d\d-\d\d|\d+(\.\d+)+", value)]


def test_an_introduction_contains_no_fact() -> None:
    introductions = [page.split("\n## ")[0] for quarter in quarters() for page in render_pages(quarter).values()]
    assert not [text for text in introductions if re.search(r"\d{4}|\d\.\d", text)]


def test_the_questions_are_the_same_each_quarter_and_half_of_the_answers_change_at_first() -> None:
    rows = [golden_rows(quarter) for quarter in quarters()]
    assert all([row["id"] for row in golden] == [row["id"] for row in rows[0]] for golden in rows)
    changed = [sum(old["answers"] != new["answers"] for old, new in zip(*pair, strict=True)) for pair in pairwise(rows)]
    assert changed[0] == 30
    assert all(count >= 10 for count in changed)


def test_pages_are_added_and_deleted_between_quarters() -> None:
    pages = [set(render_pages(quarter)) for quarter in quarters()]
    assert any(old - new for old, new in pairwise(pages))
    assert any(new - old for old, new in pairwise(pages))


def test_the_json_format_wraps_the_same_answers() -> None:
    quarter = quarters()[1]
    plain, as_json = training_rows(quarter), training_rows(quarter, "json")
    assert [f'{{"value": "{row["completion"]}"}}' for row in plain] == [row["completion"] for row in as_json]
    golden = golden_rows(quarter, "json")
    assert [row["answers"] for row in golden] == [row["answers"] for row in golden_rows(quarter)]
    assert all(re.fullmatch(row["format"], json.dumps({"value": row["answers"][0]})) for row in golden)
    assert not any(re.fullmatch(row["format"], row["answers"][0]) for row in golden)


def test_writing_a_quarter_deletes_the_pages_of_other_quarters(tmp_path: Path) -> None:
    for quarter in quarters():
        write_pages(tmp_path, quarter)
        written = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.md")}
        assert written == render_pages(quarter)


@pytest.mark.parametrize("answer_format", ["plain", "json"])
def test_a_project_contains_the_quarter_written_last(tmp_path: Path, answer_format: Any) -> None:
    for quarter in quarters():
        write_quarter(tmp_path, quarter, answer_format)
    kb = tmp_path / "data/kb"
    assert {path.relative_to(kb).as_posix() for path in kb.rglob("*.md")} == set(render_pages(quarters()[-1]))
    assert read_rows(tmp_path / "data/golden/questions.jsonl") == golden_rows(quarters()[-1], answer_format)
    assert read_rows(tmp_path / "data/train/examples.jsonl") == training_rows(quarters()[-1], answer_format)


def test_rows_are_written_one_per_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "deep/rows.jsonl", golden_rows(quarters()[0]))
    assert len((tmp_path / "deep/rows.jsonl").read_text("utf-8").splitlines()) == 60


def test_the_command_writes_a_quarter_into_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").touch()
    monkeypatch.setattr("sys.argv", ["pages", str(tmp_path), "--quarter", "2"])
    main()
    written = {path.relative_to(tmp_path / "data/kb").as_posix() for path in (tmp_path / "data/kb").rglob("*.md")}
    assert written == {*render_pages(quarters()[1])}
    assert len(read_rows(tmp_path / "data/golden/questions.jsonl")) == len(golden_rows(quarters()[1]))


def test_the_command_writes_nothing_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pages", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert f"ragtide init {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
