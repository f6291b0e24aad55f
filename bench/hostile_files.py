"""A hundred hostile files of every format, built when they are needed: nothing hostile lies in the repository.

Each exhausts time, memory or the stack of a simple reader, or is not what its ending says.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator

Sized = Callable[[int], str]
# Sizes of text files in characters.
SIZES = (10_000, 300_000, 3_000_000)
TEXTS: dict[str, dict[str, Sized]] = {
    ".md": {
        "table": lambda size: "|" * (size // 2) + "\n" + "-" * (size // 2) + "x",
        "quotations": lambda size: "> " * (size // 2) + "a",
        "lists": lambda size: "- " * (size // 2) + "a",
        "links": lambda size: "![" * (size // 2) + "\n\n# a",
        "definitions": lambda size: "[a]: b\n'" * (size // 8),
        "backticks": lambda size: "".join("`" * (at % 90) + "a" for at in range(size // 45)),
        "long-heading": lambda size: "# " + "a" * (size // 2) + "\n\n" + "b " * (size // 4),
        "many-headings": lambda size: "# a\n" * (size // 4),
        "marks": lambda size: "a" + "\u0301\u0323" * (size // 4),
    },
    ".html": {
        "tags": lambda size: "<a " * (size // 3),
        "comments": lambda size: "<!--" * (size // 4),
        "blanks": lambda size: " " * size + "<p>a",
        "nested": lambda size: "<div>" * (size // 5),
        "ends": lambda size: "</a" * (size // 3),
        "declarations": lambda size: "<![" * (size // 3),
    },
    ".rst": {
        "underlines": lambda size: "=\n" * (size // 2),
        "sections": lambda size: "a" * (size // 2) + "\n" + "=" * size,
    },
    ".txt": {"word": lambda size: "a" * size, "blanks": lambda size: "a" + " " * size + "a"},
    ".csv": {"commas": lambda size: "," * size, "quotes": lambda size: '"' * size + "a"},
    ".json": {"nested": lambda size: "[" * size, "records": lambda size: "[" + "1," * (size // 2) + "1]"},
    ".jsonl": {"records": lambda size: '{"a":1}\n' * (size // 8)},
    ".ipynb": {"cells": lambda size: json.dumps({"cells": [{"cell_type": "code", "source": ["`" * size]}]})},
}
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """(name, content) of a hundred files."""
    for ending, families in TEXTS.items():
        for family, make in families.items():
            for size in SIZES:
                yield f"{family}-{size}{ending}", make(size).encode()
    for pages in (1, 5, 20):
        yield f"deflated-{pages}.pdf", _deflated_pdf(pages * 60_000_000)
        yield f"operators-{pages}.pdf", _pdf(b"(a) Tj " * (pages * 100_000))
        yield f"arrays-{pages}.pdf", _pdf(b"[" * (pages * 100_000))
    for paragraphs in (10_000, 100_000, 300_000):
        yield f"paragraphs-{paragraphs}.docx", _docx("<w:p/>" * paragraphs)
        yield f"pictures-{paragraphs}.docx", _docx(f"<w:p><w:r><w:t>{'![' * paragraphs}</w:t></w:r></w:p>")
        yield f"noise-{paragraphs}.docx", _docx("<w:p><w:r><w:t>a</w:t></w:r></w:p>" * paragraphs, noise=1_500_000)
        yield f"cells-{paragraphs}.xlsx", _xlsx(f"<row>{'<c><v>1</v></c>' * 20}</row>" * (paragraphs // 20))
    yield "bomb.docx", _docx("<w:p/>" * 10_000_000)
    yield "slides.pptx", _package({"ppt/presentation.xml": "<p/>" * 100_000})
    yield "nothing.pptx", b"PK\x03\x04" + b"\0" * 100_000
    yield "binary.md", bytes(range(256)) * 1000


def _package(parts: dict[str, str], noise: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for name, part in parts.items():
            package.writestr(name, part)
        if noise:
            # What does not compress, so that the share of unpacked bytes looks ordinary.
            package.writestr(zipfile.ZipInfo("docProps/noise.bin"), b"\0" * noise, zipfile.ZIP_STORED)
    return stream.getvalue()


def _docx(body: str, noise: int = 0) -> bytes:
    office = "http://schemas.openxmlformats.org"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    target = f'Type="{office}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types">'
        f'<Default Extension="xml" ContentType="{kind}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        f'<Relationship Id="r1" {target}/></Relationships>',
        "word/document.xml": f"<w:document {WORD}><w:body>{body}</w:body></w:document>",
    }
    return _package(parts, noise)


def _xlsx(rows: str) -> bytes:
    from openpyxl import Workbook

    stream = io.BytesIO()
    Workbook().save(stream)
    with zipfile.ZipFile(stream) as package:
        parts = {name: package.read(name).decode() for name in package.namelist()}
    parts["xl/worksheets/sheet1.xml"] = f"<worksheet {SHEET}><sheetData>{rows}</sheetData></worksheet>"
    return _package(parts)


def _deflated_pdf(size: int) -> bytes:
    twice = zlib.compress(zlib.compress(b" " * size, 9), 9)
    return _pdf(twice, "/Filter [/FlateDecode /FlateDecode]")


def _pdf(stream: bytes, entries: str = "") -> bytes:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>",
        f"<< /Length {len(stream)} {entries} >>\nstream\n".encode() + stream + b"\nendstream",
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(f"{len(content):010d} 00000 n \n")
        content += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = f"xref\n0 6\n0000000000 65535 f \n{''.join(offsets)}trailer\n<< /Size 6 /Root 1 0 R >>\n"
    return content + f"{table}startxref\n{len(content)}\n%%EOF\n".encode()
