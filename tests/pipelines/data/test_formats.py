"""Does every format give a text that can be found again? And is what cannot be read refused in plain words, always?"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data import formats
from ragtide.pipelines.data.formats import FORMATS, DocumentError, convert_document, is_document

ROOT = Path(__file__).parents[3]
HEAVY = (".pdf", ".docx", ".pptx", ".xlsx")
OFFICE = (".docx", ".pptx", ".xlsx")
PAGE = "<html><body><h1>Ports</h1><h2>Web</h2><p>Listens on <b>8080</b>.</p><ul><li>TLS</li></ul></body></html>"
LINES = st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])), max_size=6)
OLD_OFFICE = bytes.fromhex("d0cf11e0a1b11ae1")
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
SCHEMAS = "http://schemas.openxmlformats.org"
DOCTYPE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///secret">]>'


# What the tests read: small documents, made here.


def pdf(*texts: str, trailer: str = "") -> bytes:
    """A PDF with a page for each text; `trailer` is put into its trailer."""
    pages = range(4, 4 + 2 * len(texts), 2)
    kids = " ".join(f"{page} 0 R" for page in pages)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(texts)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in zip(pages, texts, strict=True):
        lines = " ".join(f"({line}) Tj T*" for line in text.split("\n"))
        drawn = f"BT /F1 12 Tf 14 TL 72 720 Td {lines} ET"
        uses = f"/Resources << /Font << /F1 3 0 R >> >> /Contents {page + 1} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {uses} >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    return pdf_of(objects, trailer)


def pdf_of(objects: list[str], trailer: str) -> bytes:
    content, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(f"{len(content):010d} 00000 n \n")
        content += f"{number} 0 obj\n{one}\nendobj\n"
    size = len(objects) + 1
    table = f"xref\n0 {size}\n0000000000 65535 f \n{''.join(places)}"
    end = f"trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{len(content)}\n%%EOF\n"
    return (content + table + end).encode("latin-1")


def zipped(parts: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for name, part in parts.items():
            package.writestr(name, part)
    return stream.getvalue()


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        return {name: package.read(name) for name in package.namelist()}


def declaring(part: bytes, doctype: str) -> bytes:
    """XML with this before its first element."""
    head, body = part.split(b"?>", 1) if part.startswith(b"<?xml") else (b'<?xml version="1.0"', part)
    return head + b"?>" + doctype.encode() + body


def docx(body: str) -> bytes:
    """A Word file with this XML as its body. Its styles have German ids and, as in every Word, English names."""
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in [("Titel", "Title"), ("berschrift1", "heading 1")]
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    types = f'<Default Extension="xml" ContentType="{main}"/>'
    target = f'Type="{SCHEMAS}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{SCHEMAS}/package/2006/content-types">{types}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships">'
        f'<Relationship Id="r1" {target}/></Relationships>',
        "word/document.xml": f"<w:document {WORD}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {WORD}>{styles}</w:styles>",
    }
    return zipped({name: part.encode() for name, part in parts.items()})


def paragraph(text: str, style: str = "") -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'


def pptx(*slides: Callable[[Any], None]) -> bytes:
    """A presentation; each of `slides` draws one on the layout of a title and a body."""
    from pptx import Presentation

    show = Presentation()
    for draw in slides:
        draw(show.slides.add_slide(show.slide_layouts[1]))
    stream = io.BytesIO()
    show.save(stream)
    return stream.getvalue()


def slide(title: str, body: str = "", notes: str = "") -> Callable[[Any], None]:
    def draw(slide: Any) -> None:
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
        if notes:
            slide.notes_slide.notes_text_frame.text = notes

    return draw


def xlsx(**sheets: list[list[object]]) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


@cache
def sample(ending: str) -> bytes:
    """A sound document of this format that says 8080."""
    if ending in HEAVY:
        pytest.importorskip("markitdown")
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["# Ports\n", "It is 8080."]}
    made: dict[str, Callable[[], bytes]] = {
        ".pdf": lambda: pdf("The port is 8080.", "It is secure."),
        ".docx": lambda: docx(paragraph("Ports", "Titel") + paragraph("The port is 8080.")),
        ".pptx": lambda: pptx(slide("Ports", "The port is 8080.")),
        ".xlsx": lambda: xlsx(Ports=[["name", "port"], ["web", 8080]]),
        ".ipynb": lambda: json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}).encode(),
        ".json": lambda: b'[{"name": "web", "port": 8080}]',
        ".jsonl": lambda: b'{"name": "web", "port": 8080}\n',
        ".ndjson": lambda: b'{"name": "web", "port": 8080}\n',
        ".csv": lambda: b"name,port\nweb,8080\n",
        ".html": PAGE.encode,
    }
    return made.get(ending, lambda: b"The port is 8080.\n")()


def refusal(path: str, content: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        convert_document(path, content)
    return str(caught.value)


def outcome(path: str, content: bytes) -> tuple[bool, str]:
    """Whether it was read, and the text or the refusal."""
    try:
        return True, convert_document(path, content)
    except DocumentError as problem:
        return False, str(problem)


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test of this file reads, no library prints or logs a word."""
    yield
    assert capfd.readouterr() == ("", "")
    assert caplog.get_records("call") == []


# Every format.


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_is_read(ending: str) -> None:
    assert "8080" in convert_document(f"a/page{ending}", sample(ending))


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_of_a_path_only_the_ending_matters_in_either_case(ending: str) -> None:
    assert convert_document(f"other.name{ending.upper()}", sample(ending)) == convert_document(
        f"a/page{ending}", sample(ending)
    )


def test_every_format_has_an_ending_that_is_lower_case() -> None:
    assert {ending for ending in FORMATS if ending == ending.lower() and ending.startswith(".")} == FORMATS


@pytest.mark.parametrize("path", ["a.md", "deep/a.markdown", "a.TXT", "a.b.rst", "a.HTM", "a.pdf", "a.DOCX", "a.ipynb"])
def test_a_document_is_known_by_its_ending(path: str) -> None:
    assert is_document(path)


@pytest.mark.parametrize("path", ["a.png", "md", ".md", "a.md.bak", "a.md/b", "a", "a.doc", "README"])
def test_other_files_are_not_documents(path: str) -> None:
    assert not is_document(path)
    assert refusal(path, b"text").startswith("is not of a format that is read: .csv, .docx, ")


def test_the_same_bytes_give_the_same_text_in_every_process_and_nothing_is_fetched_or_written(tmp_path: Path) -> None:
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
        from ragtide.pipelines.data.formats import as_text
        sys.dont_write_bytecode = True
        sys.addaudithook(guard)
        for path in map(Path, sys.argv[1:]):
            print(hashlib.sha256(as_text(path.name, path.read_bytes()).encode()).hexdigest())
    """
    digests = [
        hashlib.sha256(convert_document(path.name, path.read_bytes()).encode()).hexdigest() for path in samples.values()
    ]
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, samples.values())]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert (ran.stderr, ran.stdout.split()) == ("", digests)


# Text.


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_text_is_read_as_it_was_written(lines: list[str]) -> None:
    text = "\n".join(["first", *lines])
    assert convert_document("page.md", text.encode()) == text


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_line_ends_a_byte_order_mark_and_utf_16_do_not_change_a_text(lines: list[str]) -> None:
    text = "\n".join(["first", *lines])
    windows = "\r\n".join(["first", *lines])
    assert convert_document("page.txt", b"\xef\xbb\xbf" + windows.encode()) == text
    assert convert_document("page.txt", windows.encode("utf-16")) == text


def test_line_ends_of_every_system_are_line_ends() -> None:
    assert convert_document("a.md", b"one\r\ntwo\rthree\n") == "one\ntwo\nthree\n"


@pytest.mark.parametrize("ending", [".md", ".rst", ".txt", ".html", ".csv", ".json", ".jsonl", ".ipynb"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"GIF89a\0\0\xff", "is binary, not text"),
        ("x\0y".encode("utf-16"), "is binary, not text"),
        ("text é".encode("latin-1"), "is not UTF-8 (byte 5): save it as UTF-8"),
        ("text".encode("utf-16")[:-1], "is not UTF-16 (byte 8): save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_under_the_name_of_one(ending: str, content: bytes, reason: str) -> None:
    assert refusal(f"page{ending}", content) == reason


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.md", "\ufeff\u2003\n".encode()),
        ("a.html", b"<script>var port = 8080;</script><p> </p>"),
        ("a.csv", b",,\n,,\n"),
        ("a.json", b'{"a": null, "b": [], "c": ""}'),
        ("a.jsonl", b"null\n{}\n"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": " "}]}'),
    ],
)
def test_a_document_that_says_nothing_is_refused(path: str, content: bytes) -> None:
    assert refusal(path, content) == "holds no text"


# HTML.


@pytest.mark.parametrize("name", ["page.html", "page.HTM"])
def test_the_headings_of_a_web_page_become_headings_of_markdown(name: str) -> None:
    lines = convert_document(name, PAGE.encode()).splitlines()
    assert [line for line in lines if line] == ["# Ports", "## Web", "Listens on **8080**.", "* TLS"]


def test_html_in_a_markdown_file_stays_as_it_is() -> None:
    assert convert_document("page.md", PAGE.encode()) == PAGE


def test_what_a_web_page_does_not_show_is_not_read() -> None:
    page = b"<style>body{color:red}</style><script>var s=1;</script><template>later</template><h1>Ports</h1>"
    assert convert_document("a.html", page).split() == ["#", "Ports"]


def test_a_web_page_that_looks_like_the_name_of_one_is_read() -> None:
    assert convert_document("a.html", b"https://example.org/page.html").strip() == "https://example.org/page.html"


def test_a_web_page_that_is_xml_is_read_as_a_page() -> None:
    assert convert_document("a.html", b'<?xml version="1.0"?>\n<html><p>Ports</p></html>').strip() == "Ports"


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
def test_a_document_nested_beyond_reason_is_refused(path: str, content: bytes) -> None:
    assert refusal(path, content) == "is nested too deeply to be read: simplify it or remove it"


# CSV.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_whatever_parts_its_columns(delimiter: str) -> None:
    rows = ["name", "port"], ["web", "8080"], ["mail", "25"]
    content = "\n".join(delimiter.join(row) for row in rows)
    assert (
        convert_document("a.csv", content.encode()) == "| name | port |\n| --- | --- |\n| web | 8080 |\n| mail | 25 |"
    )


def test_a_comma_within_a_number_or_a_sentence_parts_no_columns() -> None:
    text = convert_document("a.csv", b"name;price;note\nweb;1,5;small, cheap\nmail;20;large\n")
    assert text.splitlines()[2:] == ["| web | 1,5 | small, cheap |", "| mail | 20 | large |"]


def test_a_cell_stays_on_its_line_with_its_bars_and_quotes() -> None:
    text = convert_document("a.csv", b'name,note\nweb,"two\nlines, a | and a ""quote"""\n')
    assert text.splitlines()[2:] == ['| web | two lines, a \\| and a "quote" |']


def test_what_stands_alone_above_a_table_is_no_header() -> None:
    text = convert_document("a.csv", b"Ports of 2030,,\n,,\nname,,port,tls\nweb,,8080,yes\n")
    assert text == "Ports of 2030\n\n| name | port | tls |\n| --- | --- | --- |\n| web | 8080 | yes |"


def test_a_row_may_be_longer_than_the_header() -> None:
    assert convert_document("a.csv", b"name\nweb,8080\nmail,25\n").splitlines()[:2] == ["| name |  |", "| --- | --- |"]


def test_a_cell_beyond_reason_is_refused() -> None:
    assert refusal("a.csv", b'a,b\n1,"' + b"x" * 200_000).startswith("is not a table of comma-separated values (field")


def test_a_table_of_too_many_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_CELLS", 4)
    assert convert_document("a.csv", b"a,b\n1,2\n,\n")
    assert refusal("a.csv", b"a,b\n1,2\n3,\n") == "is a table of more than 4 cells: split it"


# JSON and notebooks.


def test_a_line_of_json_is_a_section_under_its_title() -> None:
    content = b'{"Name": "web", "at": {"host": "a", "ports": [80, 8080]}, "tls": true, "note": null}\n\n{"id": 7}\n'
    assert convert_document("a.jsonl", content) == (
        "# web\n\nName: web\nat.host: a\nat.ports: 80, 8080\ntls: true\n\n# 7\n\nid: 7"
    )


def test_a_list_of_json_reads_as_its_lines_would() -> None:
    records: list[object] = [{"title": "web", "ports": [{"n": 80}, {"n": 8080}]}, {"title": "mail"}, "text", 5]
    lines = "\n".join(map(json.dumps, records))
    assert convert_document("a.json", json.dumps(records).encode()) == convert_document("a.jsonl", lines.encode())


def test_records_without_titles_are_paragraphs() -> None:
    assert (
        convert_document("a.json", b'[{"port": 80}, {"port": {"of": [{"web": 8080}]}}]')
        == "port: 80\n\nport.of.1.web: 8080"
    )


def test_a_record_without_a_title_does_not_stand_under_anothers() -> None:
    assert convert_document("a.jsonl", b'{"name": "web"}\n{"port": 80}').endswith("# Record\n\nport: 80")


def test_an_object_of_json_gives_its_lists_of_objects_a_section_each() -> None:
    content = b'{"web": [{"name": "a"}, {"name": "b"}], "of": 2030, "at": {"host": {"ip": "::1"}}, "tags": ["x", "y"]}'
    assert convert_document("a.json", content) == (
        "of: 2030\ntags: x, y\n\nat.host.ip: ::1\n\n# web\n\n## a\n\nname: a\n\n## b\n\nname: b"
    )


def test_a_number_is_read_as_it_was_written() -> None:
    assert convert_document("a.json", b'{"a": 1.10, "b": 1e400, "c": ' + b"9" * 5000 + b"}").startswith(
        "a: 1.10\nb: 1e400\nc: 9"
    )


def test_the_paragraphs_of_a_value_stay_and_its_headings_rank_below_the_records() -> None:
    text = convert_document("a.json", b'[{"title": "Web", "text": "# Ports\\r\\n8080\\n\\n## TLS\\n443"}]')
    assert text == "# Web\n\ntitle: Web\ntext:\n### Ports\n8080\n\n#### TLS\n443"


def test_a_long_title_makes_a_short_heading() -> None:
    heading = convert_document("a.json", json.dumps([{"title": "long\n" * 100}]).encode()).splitlines()[0]
    assert len(heading) <= formats.HEADING_CHARACTERS + 2
    assert heading.endswith("long …")


def test_what_no_file_can_hold_is_not_in_a_text() -> None:
    assert convert_document("a.json", b'["half \\ud800, nul \\u0000."]') == "half ?, nul ."


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.json", b'{"a": 1', "is not JSON (line 1, column 8: Expecting ',' delimiter)"),
        ("a.json", b"[1,\n2,\nx]", "is not JSON (line 3, column 1: Expecting value)"),
        ("a.jsonl", b'{"a": 1}\n\n{"a"\n', "line 3 is not JSON (column 5: Expecting ':' delimiter)"),
        ("a.ipynb", b'{"cells": [', "is not JSON (line 1, column 12: Expecting value)"),
        ("a.ipynb", b"[]", "is not a notebook of today's format: save it with a current Jupyter"),
        ("a.ipynb", b'{"worksheets": []}', "is not a notebook of today's format: save it with a current Jupyter"),
        (
            "a.ipynb",
            b'{"cells": [{"source": 5}]}',
            "is not a notebook of today's format: save it with a current Jupyter",
        ),
    ],
)
def test_json_that_is_cut_off_or_something_else_is_refused(path: str, content: bytes, reason: str) -> None:
    assert refusal(path, content) == reason


def test_a_notebook_gives_its_cells_without_what_they_printed() -> None:
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


# PDF.


def test_the_pages_of_a_pdf_are_paragraphs_with_whole_words() -> None:
    pytest.importorskip("markitdown")
    assert convert_document("a.pdf", pdf("The port\nis 8080.", "Page two.")) == "The port\nis 8080.\n\nPage two."


def test_a_pdf_of_matplotlib_is_read_with_its_ligatures_as_letters() -> None:
    pytest.importorskip("markitdown")
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    figure = Figure()
    figure.text(0.1, 0.5, "The ef\ufb01cient port")
    figure.savefig(stream, format="pdf")
    assert convert_document("a.pdf", stream.getvalue()) == "The efficient port"


def test_a_pdf_without_a_letter_is_refused_as_scanned() -> None:
    pytest.importorskip("markitdown")
    assert refusal("a.pdf", pdf("", "")) == "holds no text: is it scanned?"


def test_a_pdf_that_asks_for_a_password_is_refused() -> None:
    pytest.importorskip("markitdown")
    lock = f"<< /Filter /Standard /V 1 /R 2 /O ({'o' * 32}) /U ({'u' * 32}) /P -4 >>"
    locked = pdf("The port is 8080.", trailer=f"/Encrypt {lock} /ID [(a) (a)]")
    assert refusal("a.pdf", locked) == "is protected by a password: save it without one"


def test_a_pdf_that_is_cut_off_is_refused() -> None:
    long = pdf(*["The port is 8080."] * 20)
    assert refusal("a.pdf", long[: len(long) // 2]) == "is cut off: the end of the PDF is missing"


def test_another_file_under_the_name_of_a_pdf_is_refused() -> None:
    assert refusal("a.pdf", b"The port is 8080.") == "is not a PDF"


def test_a_damaged_pdf_is_refused_with_what_its_converter_says() -> None:
    pytest.importorskip("markitdown")
    damaged = b"%PDF-1.4\n" + b"rubbish " * 20 + b"%%EOF"
    assert refusal("a.pdf", damaged).startswith("its converter failed: PDFSyntaxError: No /Root object")


# Word, PowerPoint, Excel.


def test_the_title_and_the_headings_of_word_are_headings_in_every_language() -> None:
    pytest.importorskip("markitdown")
    body = paragraph("Handbook", "Titel") + paragraph("Ports", "berschrift1") + paragraph("Set max_ports to *80*.")
    assert convert_document("a.docx", docx(body)) == "# Handbook\n\n## Ports\n\nSet max_ports to *80*."


def test_the_first_row_of_a_table_in_word_is_its_header() -> None:
    pytest.importorskip("markitdown")
    rows = [["name", "port"], ["web", "8080"]]
    cells = ["".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows]
    table = "".join(f"<w:tr>{row}</w:tr>" for row in cells)
    text = convert_document("a.docx", docx(f"{paragraph('Above.')}<w:tbl>{table}</w:tbl>{paragraph('Below.')}"))
    assert text == "Above.\n\n| name | port |\n| --- | --- |\n| web | 8080 |\n\nBelow."


def test_a_slide_stands_under_its_title_with_its_notes() -> None:
    pytest.importorskip("markitdown")
    show = pptx(slide("Ports\vof the web", "8080\n443", notes="Say so."), slide("", "No title"), slide("The end"))
    assert convert_document("a.pptx", show) == (
        "# Ports of the web\n\n8080\n443\n\n### Notes:\nSay so.\n\n# Slide 2\n\nNo title\n\n# The end\n\nThe end"
    )


def test_tables_and_descriptions_of_pictures_are_on_a_slide_and_names_of_pictures_are_not() -> None:
    pytest.importorskip("markitdown")
    image = pytest.importorskip("PIL.Image")

    def draw(slide: Any) -> None:
        slide.shapes.title.text = "Ports"
        table = slide.shapes.add_table(2, 1, 0, 10**6, 10**6, 10**6).table
        table.cell(0, 0).text, table.cell(1, 0).text = "name", "web"
        for description in ("A map of ports", "", "image.png"):
            stream = io.BytesIO()
            image.new("RGB", (4, 4)).save(stream, "PNG")
            picture = slide.shapes.add_picture(stream, 0, 10**7)
            picture._element._nvXxPr.cNvPr.set("descr", description)

    assert convert_document("a.pptx", pptx(draw)) == "# Ports\n\n| name |\n| --- |\n| web |\n\nA map of ports"


def test_a_sheet_is_a_table_under_its_name_with_cells_as_one_sees_them() -> None:
    pytest.importorskip("markitdown")
    day, hour = datetime(2030, 1, 2), datetime(2030, 1, 2, 3, 4)
    rows = [["Prices"], [], ["name", None, "price", "since"], ["web", None, 3.0, day], ["mail", None, 0.1 + 0.2, hour]]
    assert convert_document("a.xlsx", xlsx(Prices=rows, Blank=[], Notes=[["a | b"], [None], [True]])) == (
        "# Prices\n\nPrices\n\n| name | price | since |\n| --- | --- | --- |\n| web | 3 | 2030-01-02 |\n"
        "| mail | 0.3 | 2030-01-02 03:04:00 |\n\n# Notes\n\n| a \\| b |\n| --- |\n| True |"
    )


def test_a_cell_at_the_far_end_of_a_sheet_costs_no_more_than_another() -> None:
    pytest.importorskip("markitdown")
    far: list[object] = [None] * 16383
    assert (
        convert_document("a.xlsx", xlsx(Far=[["near"], [*far, "far"]]))
        == "# Far\n\n| near |  |\n| --- | --- |\n|  | far |"
    )


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_without_a_word_is_refused(ending: str) -> None:
    pytest.importorskip("markitdown")
    blank = {".docx": lambda: docx(paragraph(" ")), ".pptx": pptx, ".xlsx": lambda: xlsx(Blank=[[None]])}
    assert refusal(f"a{ending}", blank[ending]()) == "holds no text"


@pytest.mark.parametrize("ending", OFFICE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_an_office_file_that_is_cut_off_is_refused(ending: str, share: float) -> None:
    content = sample(ending)
    assert refusal(f"a{ending}", content[: int(len(content) * share)]) == f"is damaged, cut off, or not a {ending} file"


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_with_a_damaged_part_is_refused(ending: str) -> None:
    content = bytearray(sample(ending))
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        largest = max(package.infolist(), key=lambda part: (part.filename.endswith(".xml"), part.compress_size))
    content[largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2] ^= 0xFF
    assert refusal(f"a{ending}", bytes(content)) == f"is damaged, cut off, or not a {ending} file"


def test_a_word_file_whose_xml_is_broken_is_refused_without_a_word_in_the_log() -> None:
    parts = parts_of(sample(".docx"))
    parts["word/document.xml"] = parts["word/document.xml"].replace(b"</w:pPr>", b":p><wpPr>", 1)
    assert refusal("a.docx", zipped(parts)) == "holds no text"


@pytest.mark.parametrize("ending", OFFICE)
def test_another_file_under_the_name_of_an_office_file_is_refused(ending: str) -> None:
    assert refusal(f"a{ending}", b"The port is 8080.") == f"is damaged, cut off, or not a {ending} file"
    other = sample(".xlsx" if ending == ".docx" else ".docx")
    assert refusal(f"a{ending}", other).startswith("its converter failed: ")


@pytest.mark.parametrize("ending", OFFICE)
def test_an_encrypted_office_file_is_refused(ending: str) -> None:
    encrypted = OLD_OFFICE + bytes(500) + "EncryptedPackage".encode("utf-16-le") + bytes(500)
    assert refusal(f"a{ending}", encrypted) == "is protected by a password: save it without one"
    locked = zipped({"[Content_Types].xml": b"<Types/>"}).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")
    assert refusal(f"a{ending}", locked) == "is protected by a password: save it without one"


@pytest.mark.parametrize("ending", OFFICE)
def test_a_file_of_an_old_office_version_is_refused(ending: str) -> None:
    assert refusal(f"a{ending}", OLD_OFFICE + bytes(500)) == f"is a file of an old Office version: save it as {ending}"


@pytest.mark.parametrize("ending", OFFICE)
def test_a_bomb_is_refused_before_it_is_unpacked(ending: str) -> None:
    size = formats.MAX_UNPACKED_BYTES[ending] + 1
    bomb = zipped({"word/document.xml": bytes(size)})
    assert len(bomb) < 200_000
    said = f"unpacks from {len(bomb)} bytes to {size}: a file like this is made to do harm"
    assert refusal(f"a{ending}", bomb) == said


def test_a_large_file_that_packs_as_others_do_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    content = sample(".xlsx")
    monkeypatch.setitem(formats.MAX_UNPACKED_BYTES, ".xlsx", 10)
    assert convert_document("a.xlsx", content)


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_that_defines_entities_is_refused(ending: str) -> None:
    main = {".docx": "word/document.xml", ".pptx": "ppt/presentation.xml", ".xlsx": "xl/workbook.xml"}[ending]
    parts = parts_of(sample(ending))
    with_entity = declaring(parts[main], DOCTYPE)
    for declared in (with_entity, with_entity.decode().encode("utf-16")):
        content = zipped(parts | {main: declared})
        assert refusal(f"a{ending}", content) == "defines XML entities, which no Office file does"


@pytest.mark.parametrize("ending", OFFICE)
def test_the_converters_themselves_fetch_no_entity(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    monkeypatch.setattr(formats, "_check_package", lambda content, ending: None)
    doctype = DOCTYPE.replace("file:///secret", secret.as_uri())
    parts = parts_of(sample(ending))
    for name, part in parts.items():
        if b"8080" in part and name.endswith(".xml"):
            parts[name] = declaring(part.replace(b"8080", b"&x;"), doctype)
    assert any(b"&x;" in part for part in parts.values())
    assert "SECRET" not in outcome(f"a{ending}", zipped(parts))[1]


# The libraries.


@pytest.mark.parametrize(
    ("ending", "library"),
    [(".pdf", "pdfminer.high_level"), (".docx", "markitdown"), (".pptx", "markitdown"), (".xlsx", "openpyxl")],
)
def test_without_the_extra_its_formats_are_refused_with_how_to_install_it(
    ending: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample(ending)
    monkeypatch.setitem(sys.modules, library, None)
    assert refusal(f"a{ending}", content) == (
        "needs the libraries for PDF and Office files: pip install 'ragtide[formats]'"
    )


@pytest.mark.parametrize("ending", sorted(FORMATS - set(HEAVY)))
def test_without_the_extra_every_other_format_is_read(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("markitdown", "openpyxl", "pptx", "pandas"):
        monkeypatch.setitem(sys.modules, library, None)
    assert "8080" in convert_document(f"a{ending}", sample(ending))


@pytest.mark.parametrize("problem", [MemoryError("no\nroom"), KeyError("w" * 999), AssertionError(), OSError(2, "x")])
def test_whatever_a_converter_raises_is_one_line(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        warnings.warn("odd", stacklevel=1)
        raise problem

    monkeypatch.setitem(formats._READERS, ".pdf", fails)
    said = refusal("a.pdf", b"%PDF")
    assert said.startswith(f"its converter failed: {type(problem).__name__}: ")
    assert "\n" not in said
    assert len(said) < 300


# Anything at all.


def is_read_or_refused(path: str, content: bytes) -> None:
    """A text that can be stored, or one line of refusal: as warnings are errors here, nothing else comes out."""
    read, said = outcome(path, content)
    assert said.strip()
    assert read or "\n" not in said
    assert said.encode().decode() == said


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200))
def test_any_bytes_under_any_ending_are_read_or_refused(ending: str, content: bytes) -> None:
    is_read_or_refused(f"a{ending}", content)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from([".md", ".html", ".csv", ".tsv", ".jsonl"]), st.text(max_size=200))
def test_any_text_is_read_or_refused(ending: str, text: str) -> None:
    is_read_or_refused(f"a{ending}", text.encode("utf-8", "replace"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("name"), inner, max_size=4),
)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([".json", ".jsonl", ".ipynb"]), VALUES)
def test_any_json_is_read_or_refused(ending: str, value: object) -> None:
    is_read_or_refused(f"a{ending}", json.dumps(value).encode())


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from(HEAVY), st.data())
def test_a_document_damaged_anywhere_is_read_or_refused(ending: str, data: st.DataObject) -> None:
    content = bytearray(sample(ending))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    is_read_or_refused(f"a{ending}", bytes(content))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(OFFICE), st.data())
def test_an_office_file_with_a_damaged_part_of_xml_is_read_or_refused(ending: str, data: st.DataObject) -> None:
    parts = parts_of(sample(ending))
    name = data.draw(st.sampled_from(sorted(parts)))
    at = data.draw(st.integers(0, len(parts[name])))
    parts[name] = (
        parts[name][:at] + data.draw(st.binary(max_size=20)) + parts[name][at + data.draw(st.integers(0, 20)) :]
    )
    is_read_or_refused(f"a{ending}", zipped(parts))
