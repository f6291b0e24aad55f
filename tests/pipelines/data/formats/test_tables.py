"""Tests of CSV files as Markdown tables."""

from __future__ import annotations

import pytest

from ragtide.pipelines.data.formats import tables
from ragtide.pipelines.data.formats.converter import convert_document
from tests.pipelines.data.formats.samples import (
    error_of,
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_of_a_table_is_detected(delimiter: str) -> None:
    rows = ["name", "port"], ["web", "8080"], ["mail", "25"]
    content = "\n".join(delimiter.join(row) for row in rows)
    assert (
        convert_document("a.csv", content.encode()) == "| name | port |\n| --- | --- |\n| web | 8080 |\n| mail | 25 |"
    )


def test_commas_in_numbers_and_sentences_are_not_delimiters() -> None:
    text = convert_document("a.csv", b"name;price;note\nweb;1,5;small, cheap\nmail;20;large\n")
    assert text.splitlines()[2:] == ["| web | 1,5 | small, cheap |", "| mail | 20 | large |"]


def test_a_cell_stays_on_one_line_with_bars_escaped() -> None:
    text = convert_document("a.csv", b'name,note\nweb,"two\nlines, a | and a ""quote"""\n')
    assert text.splitlines()[2:] == ['| web | two lines, a \\| and a "quote" |']


def test_a_single_cell_above_a_table_becomes_a_paragraph() -> None:
    text = convert_document("a.csv", b"Ports of 2030,,\n,,\nname,,port,tls\nweb,,8080,yes\n")
    assert text == "Ports of 2030\n\n| name | port | tls |\n| --- | --- | --- |\n| web | 8080 | yes |"


def test_a_row_may_be_longer_than_the_header() -> None:
    assert convert_document("a.csv", b"name\nweb,8080\nmail,25\n").splitlines()[:2] == ["| name |  |", "| --- | --- |"]


def test_an_oversized_cell_is_an_error() -> None:
    assert error_of("a.csv", b'a,b\n1,"' + b"x" * 200_000).startswith("is not a table of comma-separated values (field")


def test_a_table_of_too_many_cells_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CELLS", 4)
    assert convert_document("a.csv", b"a,b\n1,2\n,\n")
    assert error_of("a.csv", b"a,b\n1,2\n3,\n") == "is a table of more than 4 cells: split it"
