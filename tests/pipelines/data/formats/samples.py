"""Small documents of every format, built for the tests."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.formats.errors import DocumentError

ROOT = Path(__file__).parents[4]
HEAVY = (".pdf", ".docx", ".pptx", ".xlsx")
OFFICE = (".docx", ".pptx", ".xlsx")
PAGE = "<html><body><h1>Ports</h1><h2>Web</h2><p>Listens on <b>8080</b>.</p><ul><li>TLS</li></ul></body></html>"
OLD_OFFICE = bytes.fromhex("d0cf11e0a1b11ae1")
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
SCHEMAS = "http://schemas.openxmlformats.org"
DOCTYPE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///secret">]>'


def pdf(*texts: str, trailer: str = "") -> bytes:
    """A PDF with a page for each text; `trailer` holds entries for its trailer dictionary."""
    pages = range(4, 4 + 2 * len(texts), 2)
    kids = " ".join(f"{page} 0 R" for page in pages)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(texts)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in zip(pages, texts, strict=True):
        lines = " ".join(f"({line}) Tj T*" for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {lines} ET"
        resources = f"/Resources << /Font << /F1 3 0 R >> >> /Contents {page + 1} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {resources} >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    return pdf_of(objects, trailer)


def pdf_of(objects: list[str], trailer: str) -> bytes:
    """A PDF file of these objects, with its cross-reference table."""
    content, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(f"{len(content):010d} 00000 n \n")
        content += f"{number} 0 obj\n{body}\nendobj\n"
    size = len(objects) + 1
    table = f"xref\n0 {size}\n0000000000 65535 f \n{''.join(offsets)}"
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
    """XML with this document type before its first element."""
    head, body = part.split(b"?>", 1) if part.startswith(b"<?xml") else (b'<?xml version="1.0"', part)
    return head + b"?>" + doctype.encode() + body


def docx(body: str) -> bytes:
    """A Word file with this XML as its body. Its styles have German ids and English names, as Word always writes."""
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
    """A presentation; each of `slides` fills one slide with a title and a body."""
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
    """A valid document of this format that contains 8080."""
    if ending in HEAVY:
        pytest.importorskip("markitdown")
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["# Ports\n", "It is 8080."]}
    builders: dict[str, Callable[[], bytes]] = {
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
    return builders.get(ending, lambda: b"The port is 8080.\n")()


def error_of(path: str, content: bytes) -> str:
    """The message of the DocumentError that a conversion raises."""
    with pytest.raises(DocumentError) as caught:
        convert_document(path, content)
    return str(caught.value)


def outcome(path: str, content: bytes) -> tuple[bool, str]:
    """Whether a document was read, with its text or the error message."""
    try:
        return True, convert_document(path, content)
    except DocumentError as problem:
        return False, str(problem)
