"""Tests of JSON, JSON Lines and notebooks as Markdown."""

from __future__ import annotations

import json

import pytest

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.formats.markdown import HEADING_CHARACTERS
from tests.pipelines.data.formats.samples import (
    error_of,
)


def test_a_json_line_becomes_a_section_under_its_title() -> None:
    content = b'{"Name": "web", "at": {"host": "a", "ports": [80, 8080]}, "tls": true, "note": null}\n\n{"id": 7}\n'
    assert convert_document("a.jsonl", content) == (
        "# web\n\nName: web\nat.host: a\nat.ports: 80, 8080\ntls: true\n\n# 7\n\nid: 7"
    )


def test_a_json_list_equals_the_same_json_lines() -> None:
    records: list[object] = [{"title": "web", "ports": [{"n": 80}, {"n": 8080}]}, {"title": "mail"}, "text", 5]
    lines = "\n".join(map(json.dumps, records))
    assert convert_document("a.json", json.dumps(records).encode()) == convert_document("a.jsonl", lines.encode())


def test_records_without_titles_are_paragraphs() -> None:
    assert (
        convert_document("a.json", b'[{"port": 80}, {"port": {"of": [{"web": 8080}]}}]')
        == "port: 80\n\nport.of.1.web: 8080"
    )


def test_a_record_without_a_title_gets_its_own_heading() -> None:
    assert convert_document("a.jsonl", b'{"name": "web"}\n{"port": 80}').endswith("# Record\n\nport: 80")


def test_each_list_of_objects_in_a_json_object_becomes_a_section() -> None:
    content = b'{"web": [{"name": "a"}, {"name": "b"}], "of": 2030, "at": {"host": {"ip": "::1"}}, "tags": ["x", "y"]}'
    assert convert_document("a.json", content) == (
        "of: 2030\ntags: x, y\n\nat.host.ip: ::1\n\n# web\n\n## a\n\nname: a\n\n## b\n\nname: b"
    )


def test_numbers_keep_their_notation() -> None:
    assert convert_document("a.json", b'{"a": 1.10, "b": 1e400, "c": ' + b"9" * 5000 + b"}").startswith(
        "a: 1.10\nb: 1e400\nc: 9"
    )


def test_headings_in_a_value_rank_below_the_records_heading() -> None:
    text = convert_document("a.json", b'[{"title": "Web", "text": "# Ports\\r\\n8080\\n\\n## TLS\\n443"}]')
    assert text == "# Web\n\ntitle: Web\ntext:\n### Ports\n8080\n\n#### TLS\n443"


def test_a_long_title_is_shortened() -> None:
    heading = convert_document("a.json", json.dumps([{"title": "long\n" * 100}]).encode()).splitlines()[0]
    assert len(heading) <= HEADING_CHARACTERS + 2
    assert heading.endswith("long …")


def test_nul_and_lone_surrogates_are_removed() -> None:
    assert convert_document("a.json", b'["half \\ud800, nul \\u0000."]') == "half ?, nul ."


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.json", b'{"a": 1', "is not JSON (line 1, column 8: Expecting ',' delimiter)"),
        ("a.json", b"[1,\n2,\nx]", "is not JSON (line 3, column 1: Expecting value)"),
        ("a.jsonl", b'{"a": 1}\n\n{"a"\n', "line 3 is not JSON (column 5: Expecting ':' delimiter)"),
        ("a.ipynb", b'{"cells": [', "is not JSON (line 1, column 12: Expecting value)"),
        ("a.ipynb", b"[]", "is not a notebook of format 4: save it with a current Jupyter"),
        ("a.ipynb", b'{"worksheets": []}', "is not a notebook of format 4: save it with a current Jupyter"),
        (
            "a.ipynb",
            b'{"cells": [{"source": 5}]}',
            "is not a notebook of format 4: save it with a current Jupyter",
        ),
    ],
)
def test_invalid_json_and_notebooks_are_errors(path: str, content: bytes, reason: str) -> None:
    assert error_of(path, content) == reason


def test_a_notebook_is_read_without_outputs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Ports\n", "\n", "Of the web."]},
        {"cell_type": "code", "source": "# no heading\nport = 8080\n", "outputs": [{"text": "printed"}]},
        {"cell_type": "code", "source": [], "outputs": []},
        {"cell_type": "raw", "source": "as it is"},
        {"cell_type": "code", "source": ["'```'"], "outputs": []},
    ]
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "julia"}}}
    assert convert_document("a.ipynb", json.dumps(notebook).encode()) == (
        "# Ports\n\nOf the web.\n\n```julia\n# no heading\nport = 8080\n```\n\nas it is\n\n````julia\n'```'\n````"
    )
