"""Office files (DOCX, PPTX, XLSX), read by markitdown and openpyxl after a check of their package."""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from contextlib import closing
from io import BytesIO
from typing import Any

from ragtide.pipelines.data.formats.errors import MISSING_LIBRARIES, PROTECTED, DocumentError
from ragtide.pipelines.data.formats.markdown import shorten_heading, tidy_markdown
from ragtide.pipelines.data.formats.tables import pipe_table

# Limits of the unpacked size. An Office file packs its XML about 10 to 1; a zip bomb packs 1000 to 1. Word's XML is
# read whole, at 4 seconds and 50 megabytes of memory per megabyte (2 cores, 2026-11); a sheet's is read row by row.
MAX_UNPACKED_BYTES = {".docx": 20_000_000, ".pptx": 20_000_000, ".xlsx": 100_000_000}
MAX_UNPACKED_RATIO = 20
# The first bytes of the files of old Office versions, and of new ones that are encrypted.
_OLD_OFFICE = bytes.fromhex("d0cf11e0a1b11ae1")
_PICTURE_FILE = re.compile(r"\S+\.(png|jpe?g|gif|bmp|svg|emf|wmf|tiff?)", flags=re.IGNORECASE)
# Word has a style of its own for a document's title; the headings below it start at the second level.
_WORD_STYLES = "\n".join(
    ["p[style-name='Title'] => h1:fresh"]
    + [f"p[style-name='heading {level}'] => h{min(level + 1, 6)}:fresh" for level in range(1, 7)]
)
_WORD_OPTIONS = {
    "style_map": _WORD_STYLES,
    "table_infer_header": True,
    "escape_asterisks": False,
    "escape_underscores": False,
    "strip": ["u"],
    # A page that is nested too deeply is an error; otherwise it would lose its headings.
    "strict": True,
}


def convert_docx(content: bytes) -> str:
    """A Word document as Markdown, with descriptions in place of pictures."""
    _check_package(content, ".docx")
    return tidy_markdown(_replace_pictures(_run_markitdown("DocxConverter", ".docx", content, **_WORD_OPTIONS)))


def convert_pptx(content: bytes) -> str:
    """A presentation as Markdown: a section for each slide."""
    _check_package(content, ".pptx")
    text = _replace_pictures(_run_markitdown("PptxConverter", ".pptx", content)).replace("\v", " ")
    slides = re.split(r"<!-- Slide number: \d+ -->", text)[1:]
    sections = (_slide_markdown(number, slide) for number, slide in enumerate(slides, start=1))
    return "\n\n".join(filter(None, sections))


def _slide_markdown(number: int, text: str) -> str:
    """A slide under its title, wherever that stands on the slide; a slide of a title alone repeats it as its text."""
    title = re.search(r"^# (.*\S)", text, flags=re.MULTILINE)
    heading = title[1] if title else f"Slide {number}"
    body = tidy_markdown(text[: title.start()] + text[title.end() :] if title else text)
    return f"# {heading}\n\n{body or heading}" if title or body else ""


def convert_xlsx(content: bytes) -> str:
    """Each sheet as a table under its name.

    Not by markitdown: version 0.1.8 turns 2 into 2.0 in a column with gaps, and a gap into NaN.
    """
    _check_package(content, ".xlsx")
    try:
        from openpyxl import load_workbook
    except ImportError as problem:
        raise DocumentError(MISSING_LIBRARIES) from problem
    sheets = []
    with closing(load_workbook(BytesIO(content), read_only=True, data_only=True)) as book:
        for sheet in book.worksheets:
            # A sheet may declare the size of the largest possible sheet.
            sheet.reset_dimensions()
            sheets.append((sheet.title, pipe_table(sheet.iter_rows(values_only=True))))
    return "\n\n".join(f"# {shorten_heading(title)}\n\n{table}" for title, table in sheets if table)


def _check_package(content: bytes, ending: str) -> None:
    """Raise DocumentError for an Office file that is encrypted, old, damaged, a zip bomb, or defines XML entities."""
    if content.startswith(_OLD_OFFICE):
        encrypted = "EncryptedPackage".encode("utf-16-le") in content
        raise DocumentError(PROTECTED if encrypted else f"is a file of an old Office version: save it as {ending}")
    try:
        with zipfile.ZipFile(BytesIO(content)) as package:
            _check_size(package.infolist(), len(content), MAX_UNPACKED_BYTES[ending])
            names = [name for name in package.namelist() if name.lower().endswith((".xml", ".rels"))]
            defines_entities = any(b"<!DOCTYPE" in package.read(name).replace(b"\0", b"") for name in names)
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise DocumentError(f"is damaged, truncated, or not a {ending} file") from problem
    if defines_entities:
        raise DocumentError("defines XML entities, which no Office file does")


def _check_size(parts: list[zipfile.ZipInfo], packed_bytes: int, limit_bytes: int) -> None:
    if any(part.flag_bits & 1 for part in parts):
        raise DocumentError(PROTECTED)
    unpacked_bytes = sum(part.file_size for part in parts)
    if unpacked_bytes > limit_bytes and unpacked_bytes > MAX_UNPACKED_RATIO * packed_bytes:
        raise DocumentError(f"unpacks from {packed_bytes} to {unpacked_bytes} bytes: this is likely a zip bomb")


def _run_markitdown(converter: str, ending: str, content: bytes, **options: Any) -> str:
    """The Markdown that one converter of markitdown makes of `content`.

    The converter is named, since `MarkItDown.convert` tries others where one fails: a damaged file would become the
    text of its bytes, or a list of the files in it.
    """
    try:
        from markitdown import MissingDependencyException, StreamInfo, converters
    except ImportError as problem:
        raise DocumentError(MISSING_LIBRARIES) from problem
    logging.getLogger("bs4").setLevel(logging.CRITICAL)
    try:
        result = getattr(converters, converter)().convert(BytesIO(content), StreamInfo(extension=ending), **options)
    except MissingDependencyException as problem:
        raise DocumentError(MISSING_LIBRARIES) from problem
    return str(result.markdown)


def _replace_pictures(text: str) -> str:
    """Replace each picture, `![description](target)`, by its description."""
    # Not by a pattern, which would search for the end of a picture again from each "![".
    parts: list[str] = []
    done = closing = 0
    start = text.find("![")
    while start >= 0:
        if closing < start + 2:
            closing = text.find("]", start + 2)
        end = text.find(")", closing) if text.startswith("](", closing) else start + 1
        if closing < 0 or end < 0:
            break
        if end > closing:
            parts += [text[done:start], _description(text[start + 2 : closing], text[closing + 2 : end])]
            done = end + 1
        start = text.find("![", end + 1)
    return "".join([*parts, text[done:]])


def _description(text: str, target: str) -> str:
    """The description of a picture; a file name, or "Picture 3" with its file, becomes nothing."""
    is_generated = re.sub(r"\W", "", text) + ".jpg" == target or _PICTURE_FILE.fullmatch(text)
    return "" if is_generated else text
