"""Tests of JSONL reading: order, file and line number, invalid lines, and files of earlier snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from ragtide.pipelines.data.jsonl import InvalidLine, read_earlier_lines, read_lines, validate_lines
from ragtide.pipelines.errors import UserError
from tests.factories import md5, workspace, write

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class Line(BaseModel):
    """A line with a text and an optional number."""

    model_config = ConfigDict(extra="forbid")
    text: str
    number: int = 0


def read(folder: Path, files: Mapping[str, str | bytes]) -> list[tuple[str, str]]:
    """(FILE:NUMBER below `folder`, text) of each line of `files`, which are written there first."""
    contents = {path: write(folder / path, content).read_bytes() for path, content in files.items()}
    digests = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in contents.items()}
    lines = read_lines(folder, digests, Line)
    return [(where.removeprefix(f"{folder}/"), line.text) for where, line in lines]


def line(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False)


def test_files_come_in_order_of_path_and_lines_in_order_of_number(tmp_path: Path) -> None:
    files = {"z.jsonl": line("last"), "a/b.jsonl": f"{line('one')}\n{line('two')}\n", "m.jsonl": line("third")}
    assert read(tmp_path, files) == [
        ("a/b.jsonl:1", "one"),
        ("a/b.jsonl:2", "two"),
        ("m.jsonl:1", "third"),
        ("z.jsonl:1", "last"),
    ]


@pytest.mark.parametrize("name", ["notes.md", "lines.json", "lines.jsonl.bak", "jsonl"])
def test_files_of_another_kind_are_ignored(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, {name: "not JSON", "a.jsonl": line("one")}) == [("a.jsonl:1", "one")]


@pytest.mark.parametrize("content", ["", "\n\n", "   \n\t\n"], ids=["empty", "line ends", "white space"])
def test_a_file_without_lines_yields_nothing(content: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"a.jsonl": content}) == []


def test_no_files_yield_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, {}) == []


def test_a_blank_line_is_counted_and_skipped(tmp_path: Path) -> None:
    content = f"\n{line('one')}\n  \n{line('two')}"
    assert read(tmp_path, {"a.jsonl": content}) == [("a.jsonl:2", "one"), ("a.jsonl:4", "two")]


def test_windows_line_ends_and_a_byte_order_mark_are_stripped(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + f"{line('one')}\r\n{line('two')}\r\n".encode()
    assert read(tmp_path, {"a.jsonl": content}) == [("a.jsonl:1", "one"), ("a.jsonl:2", "two")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"], ids=repr)
def test_only_a_line_feed_ends_a_line(separator: str, tmp_path: Path) -> None:
    inside = json.dumps(separator) if separator < " " else f'"{separator}"'
    assert read(tmp_path, {"a.jsonl": f'{{"text": {inside}}}\n{line("two")}'}) == [
        ("a.jsonl:1", separator),
        ("a.jsonl:2", "two"),
    ]


def test_a_character_that_is_escaped_as_a_pair_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, {"a.jsonl": '{"text": "\\ud83d\\ude00"}'}) == [("a.jsonl:1", "\U0001f600")]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.none() | TEXTS, max_size=8))
def test_written_lines_are_read_back(texts: list[str | None]) -> None:
    content = "\n".join("" if text is None else line(text) for text in texts)
    with TemporaryDirectory() as folder:
        lines = read(Path(folder), {"a.jsonl": content})
    assert lines == [(f"a.jsonl:{number}", text) for number, text in enumerate(texts, 1) if text is not None]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{'text': 1}", "is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ('{"text": "a"} {"text": "b"}', "is not JSON (Extra data at column 15)"),
        ('{"text": "a"', "is not JSON (Expecting ',' delimiter at column 13)"),
        ('{"txt": "a"}', "text: Field required"),
        ('{"text": 3}', "text: Input should be a valid string"),
        ('{"text": "a", "number": "many"}', "number: Input should be a valid integer"),
        ('{"text": "a", "colour": "red"}', "colour: Extra inputs are not permitted"),
        ('{"text": "half \\ud800"}', "contains half a character (\\ud800)"),
        ('{"text": "half \\uDC00\\ud83d"}', "contains half a character (\\udc00)"),
        ('{"half \\ud800": 1, "text": "a"}', "contains half a character (\\ud800)"),
        ('{"text": "a", "number": 1, "text": "b"}', "text: the key is given twice"),
        ('{"text": "a", "colour": {"deep": [{"x": 1, "x": 1}]}}', "x: the key is given twice"),
        ('["text"]', "Input should be a valid dictionary"),
        ("null", "Input should be a valid dictionary"),
    ],
)
def test_an_invalid_line_is_named_by_file_number_and_key(bad: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, {"deep/a.jsonl": f"{line('good')}\n\n{bad}\n{line('good')}"})
    assert str(error.value).startswith(f"{tmp_path}/deep/a.jsonl:3")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_invalid_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl:2: text: Field required"):
        read(tmp_path, {"b.jsonl": "nonsense", "a.jsonl": f"{line('good')}\n{{}}\nnonsense"})


def test_a_line_that_is_not_utf_8_is_named_with_its_byte(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl:2: is not UTF-8 \(byte 10\)"):
        read(tmp_path, {"a.jsonl": line("good").encode() + b'\n{"text": "\xe9"}\n'})


def test_an_invalid_line_is_returned_among_the_valid_ones(tmp_path: Path) -> None:
    content = f"{line('one')}\n\n{{}}\n{line('two')}"
    write(tmp_path / "deep/a.jsonl", content)
    lines = list(validate_lines(tmp_path, {"deep/a.jsonl": md5(content)}, Line))
    assert lines == [
        ("deep/a.jsonl:1", Line(text="one")),
        ("deep/a.jsonl:3", InvalidLine("text: Field required: fix the line")),
        ("deep/a.jsonl:4", Line(text="two")),
    ]


def test_a_file_that_changed_since_the_snapshot_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", line("new"))
    with pytest.raises(UserError, match=r"a\.jsonl changed while it was being read"):
        list(read_lines(tmp_path, {"a.jsonl": "0" * 32}, Line))


def test_a_file_deleted_since_the_snapshot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl cannot be read \(No such file or directory\)"):
        list(read_lines(tmp_path, {"a.jsonl": "0" * 32}, Line))


def test_earlier_lines_come_from_dvcs_cache_without_invalid_ones(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    content = f"{line('one')}\nnonsense\n{{}}\n{line('two')}\n"
    digest = md5(content)
    write(tmp_path / ".dvc/cache/files/md5" / digest[:2] / digest[2:], content)
    files = {"z.jsonl": "0" * 32, "a.jsonl": digest, "a.txt": digest}
    lines = [(where, line.text) for where, line in read_earlier_lines(project, files, Line)]
    assert lines == [("a.jsonl:1", "one"), ("a.jsonl:4", "two")]
