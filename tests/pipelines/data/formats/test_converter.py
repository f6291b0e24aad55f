"""Tests of the converter: every format, missing libraries, and arbitrary content."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.formats import converter
from ragtide.pipelines.data.formats.converter import FORMATS, convert_document, is_document
from tests.pipelines.data.formats.samples import (
    HEAVY,
    OFFICE,
    ROOT,
    error_of,
    outcome,
    parts_of,
    sample,
    zipped,
)


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_is_read(ending: str) -> None:
    assert "8080" in convert_document(f"a/page{ending}", sample(ending))


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_only_the_ending_of_a_path_matters_in_any_case(ending: str) -> None:
    assert convert_document(f"other.name{ending.upper()}", sample(ending)) == convert_document(
        f"a/page{ending}", sample(ending)
    )


def test_every_ending_is_lower_case() -> None:
    assert {ending for ending in FORMATS if ending == ending.lower() and ending.startswith(".")} == FORMATS


@pytest.mark.parametrize("path", ["a.md", "deep/a.markdown", "a.TXT", "a.b.rst", "a.HTM", "a.pdf", "a.DOCX", "a.ipynb"])
def test_a_document_is_recognised_by_its_ending(path: str) -> None:
    assert is_document(path)


@pytest.mark.parametrize("path", ["a.png", "md", ".md", "a.md.bak", "a.md/b", "a", "a.doc", "README"])
def test_other_files_are_not_documents(path: str) -> None:
    assert not is_document(path)
    assert error_of(path, b"text").startswith("has no supported format: .csv, .docx, ")


def test_conversion_is_deterministic_and_neither_fetches_nor_writes(tmp_path: Path) -> None:
    samples = {ending: tmp_path / f"page{ending}" for ending in sorted(FORMATS)}
    for ending, path in samples.items():
        path.write_bytes(sample(ending))
    script = """
        import hashlib, os, sys
        from pathlib import Path
        def guard(event, arguments):
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) or event == "os.mkdir"
            if writes or event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
                sys.exit(f"{event}: {arguments}")
        from ragtide.pipelines.data.formats.converter import convert_document
        sys.dont_write_bytecode = True
        sys.addaudithook(guard)
        for path in map(Path, sys.argv[1:]):
            print(hashlib.sha256(convert_document(path.name, path.read_bytes()).encode()).hexdigest())
    """
    digests = [
        hashlib.sha256(convert_document(path.name, path.read_bytes()).encode()).hexdigest() for path in samples.values()
    ]
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, samples.values())]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert (ran.stderr, ran.stdout.split()) == ("", digests)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.html", b"<div>" * 5000 + b"text"),
        ("a.json", b"[" * 100_000),
        ("a.json", b'{"a":' * 100_000),
        ("a.jsonl", b"[" * 100_000),
        ("a.ipynb", b'{"cells":' + b"[" * 100_000),
    ],
)
def test_a_deeply_nested_document_is_an_error(path: str, content: bytes) -> None:
    assert error_of(path, content) == "is nested too deeply to be read: simplify it or remove it"


@pytest.mark.parametrize(
    ("ending", "library"),
    [(".pdf", "pdfminer.high_level"), (".docx", "markitdown"), (".pptx", "markitdown"), (".xlsx", "openpyxl")],
)
def test_without_the_extra_its_formats_name_how_to_install_it(
    ending: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample(ending)
    monkeypatch.setitem(sys.modules, library, None)
    assert error_of(f"a{ending}", content) == (
        "needs the libraries for PDF and Office files: pip install 'ragtide[formats]'"
    )


@pytest.mark.parametrize("ending", sorted(FORMATS - set(HEAVY)))
def test_every_other_format_is_read_without_the_extra(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("markitdown", "openpyxl", "pptx", "pandas"):
        monkeypatch.setitem(sys.modules, library, None)
    assert "8080" in convert_document(f"a{ending}", sample(ending))


@pytest.mark.parametrize("problem", [ValueError("no\nroom"), KeyError("w" * 999), AssertionError(), OSError(2, "x")])
def test_any_exception_of_a_converter_becomes_one_line(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        warnings.warn("odd", stacklevel=1)
        raise problem

    monkeypatch.setitem(converter._CONVERTERS, ".pdf", fails)
    message = error_of("a.pdf", b"%PDF")
    assert message.startswith(f"its converter failed: {type(problem).__name__}: ")
    assert "\n" not in message
    assert len(message) < 300


def test_a_lack_of_memory_is_left_to_the_process_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        raise MemoryError

    monkeypatch.setitem(converter._CONVERTERS, ".pdf", fails)
    with pytest.raises(MemoryError):
        convert_document("a.pdf", b"%PDF")


def assert_text_or_error(path: str, content: bytes) -> None:
    """Assert a storable text or a one-line error; since warnings are errors here, nothing else can come out."""
    is_read, text = outcome(path, content)
    assert text.strip()
    assert is_read or "\n" not in text
    assert text.encode().decode() == text


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200))
def test_any_bytes_with_any_ending_give_text_or_an_error(ending: str, content: bytes) -> None:
    assert_text_or_error(f"a{ending}", content)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from([".md", ".html", ".csv", ".tsv", ".jsonl"]), st.text(max_size=200))
def test_any_text_gives_text_or_an_error(ending: str, text: str) -> None:
    assert_text_or_error(f"a{ending}", text.encode("utf-8", "replace"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("name"), inner, max_size=4),
)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([".json", ".jsonl", ".ipynb"]), VALUES)
def test_any_json_gives_text_or_an_error(ending: str, value: object) -> None:
    assert_text_or_error(f"a{ending}", json.dumps(value).encode())


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from(HEAVY), st.data())
def test_a_damaged_document_gives_text_or_an_error(ending: str, data: st.DataObject) -> None:
    content = bytearray(sample(ending))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    assert_text_or_error(f"a{ending}", bytes(content))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(OFFICE), st.data())
def test_an_office_file_with_damaged_xml_gives_text_or_an_error(ending: str, data: st.DataObject) -> None:
    parts = parts_of(sample(ending))
    name = data.draw(st.sampled_from(sorted(parts)))
    at = data.draw(st.integers(0, len(parts[name])))
    parts[name] = (
        parts[name][:at] + data.draw(st.binary(max_size=20)) + parts[name][at + data.draw(st.integers(0, 20)) :]
    )
    assert_text_or_error(f"a{ending}", zipped(parts))
