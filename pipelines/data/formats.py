"""What text do the bytes of a document hold? One reader a format; what cannot be read says why in a few plain words.

Text comes out as Markdown that cuts well into passages: headings where the document has them, a row of a table with
its columns' names above it, a record of JSON as a paragraph of `key: value` lines. Nothing is fetched and no file is
written. PDF, DOCX, PPTX and XLSX need the extra `formats`, which is imported when the first of them is read.
"""

from __future__ import annotations

import codecs
import csv
import importlib.util
import json
import logging
import re
import textwrap
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, time
from io import BytesIO, StringIO
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from ragtide.pipelines.errors import summarize_error

# Raised by hand whenever the same bytes would give another text, be it by this module or by a library's new version.
CONVERTER = "convert-1"
MARKDOWN = frozenset({".md", ".markdown"})
REST = frozenset({".rst"})
TEXT = frozenset({".txt", ".text"})
HTML = frozenset({".html", ".htm"})
TABLES = frozenset({".csv", ".tsv"})
JSONL = frozenset({".jsonl", ".ndjson"})
MISSING = "needs the libraries for PDF and Office files: pip install 'ragtide[formats]'"
PROTECTED = "is protected by a password: save it without one"
# What a small file may unpack to. An Office file packs its XML about 10 to 1; a bomb packs 1000 to 1. Word's XML is
# read whole, at 4 seconds and 50 megabytes of memory a megabyte (2 cores, 2026-11); a sheet's is read row by row.
MAX_UNPACKED_BYTES = {".docx": 20_000_000, ".pptx": 20_000_000, ".xlsx": 100_000_000}
MAX_UNPACKED_RATIO = 20
# A few bytes of a sheet can name a cell in the last of 16384 columns, and thereby all cells before it.
MAX_CELLS = 2_000_000
HEADING_CHARACTERS = 120
MESSAGE_CHARACTERS = 200
# Underscores and asterisks as they are: `max\_bytes` is not found by who looks for max_bytes.
_AS_READ: dict[str, Any] = {
    "heading_style": "ATX",
    "escape_underscores": False,
    "escape_asterisks": False,
    "table_infer_header": True,
}
_TITLE_KEYS = ("title", "name", "id")
# The beginning of the files of old Office versions, and of new ones that are encrypted.
_OLD_OFFICE = bytes.fromhex("d0cf11e0a1b11ae1")
# A reader may allow for rubbish before a PDF's first line and after its last.
_PDF_MARGIN = 2048
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "\u00ad": None, "\f": "\n\n"})
_PICTURE_FILE = re.compile(r"\S+\.(png|jpe?g|gif|bmp|svg|emf|wmf|tiff?)", flags=re.IGNORECASE)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")
# Below a document's title, which Word knows as a style of its own, its headings are of the second level and deeper.
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
    # Nested too deeply is an error, not a page without its headings.
    "strict": True,
}


class DocumentError(Exception):
    """One document cannot be read: the message says why, in a few plain words without the path.

    The rest of the folder goes on.
    """


def converter_signature() -> str:
    """Which documents can be read here: changes with the converter, and once the extra `formats` is installed."""
    libraries = ("markitdown", "pdfminer", "openpyxl")
    return f"{CONVERTER}+formats" if all(importlib.util.find_spec(name) for name in libraries) else CONVERTER


def is_document(path: str) -> bool:
    """Whether Ragtide reads files of this name; others lie in the folder unread."""
    return PurePosixPath(path).suffix.lower() in FORMATS


def convert_document(path: str, content: bytes) -> str:
    """The text of a document's bytes, the same for the same bytes; of `path` only the ending matters.

    Raises DocumentError, and nothing else, where there is none.
    """
    read = _READERS.get(PurePosixPath(path).suffix.lower())
    if read is None:
        raise DocumentError(f"is not of a format that is read: {', '.join(sorted(FORMATS))}")
    if not content.strip():
        raise DocumentError("is empty")
    with warnings.catch_warnings():
        # A page of one short line is a page, not the name of one; what else a library finds odd is no one's business.
        warnings.simplefilter("ignore")
        text = _storable(_guarded(read, content))
    if not text.strip():
        raise DocumentError("holds no text")
    return text


def _guarded(read: Callable[[bytes], str], content: bytes) -> str:
    try:
        return read(content)
    except DocumentError:
        raise
    except RecursionError as problem:
        raise DocumentError("is nested too deeply to be read: simplify it or remove it") from problem
    except Exception as problem:
        said = textwrap.shorten(summarize_error(problem), MESSAGE_CHARACTERS, placeholder=" …")
        raise DocumentError(f"its converter failed: {type(problem).__name__}: {said}") from problem


def _storable(text: str) -> str:
    """`text` without what no file or table can hold: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _plain(content: bytes) -> str:
    text = _decoded(content)
    if "\0" in text:
        raise DocumentError("is binary, not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not wide and b"\0" in content:
        raise DocumentError("is binary, not text")
    name = "UTF-16" if wide else "UTF-8"
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DocumentError(f"is not {name} (byte {problem.start}): save it as UTF-8") from problem


def _html(content: bytes) -> str:
    # Imported when the first page is read: whether anything has changed is asked far more often.
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(_XML_DECLARATION.sub("", _plain(content)), "html.parser")
    for unseen in page(["script", "style", "template"]):
        unseen.decompose()
    return str(MarkdownConverter(**_AS_READ).convert_soup(page))


def _csv(content: bytes) -> str:
    text = _plain(content)
    try:
        return _table(csv.reader(StringIO(text), delimiter=_delimiter(text)))
    except csv.Error as problem:
        raise DocumentError(f"is not a table of comma-separated values ({problem})") from problem


def _delimiter(text: str) -> str:
    """Whichever of `,` `;` tab cuts the first rows into the same number of columns; then the one that makes most."""

    def regularity(delimiter: str) -> tuple[float, int]:
        rows = [row for row in islice(csv.reader(StringIO(text), delimiter=delimiter), 50) if any(row)]
        widths = [len(row) for row in rows]
        usual = max(widths, key=widths.count, default=0)
        return (widths.count(usual) / len(widths), usual) if usual > 1 else (0, 0)

    return max(",;\t", key=regularity)


def _table(rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table with the first row as its header; a lone cell above a wide table is a paragraph."""
    cells, captions = _cells(rows), []
    width = max(map(len, cells), default=0)
    while width > 2 and len(cells) > 1 and len(cells[0]) == 1:
        captions.append(cells.pop(0)[0])
    if not cells:
        return ""
    header = cells[0] + [""] * (width - len(cells[0]))
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * width, *cells[1:])]
    return "\n\n".join([*captions, "\n".join(lines)])


def _cells(rows: Iterable[Iterable[object]]) -> list[list[str]]:
    """Rows of text without those that are blank, nor the blank cells at their ends, nor columns that hold nothing."""
    kept: list[list[str]] = []
    count = 0
    for row in rows:
        cells = _without_end([_cell(value) for value in row])
        count += len(cells)
        if count > MAX_CELLS:
            raise DocumentError(f"is a table of more than {MAX_CELLS} cells: split it")
        if cells:
            kept.append(cells)
    used = {at for row in kept for at, cell in enumerate(row) if cell}
    return [[cell for at, cell in enumerate(row) if at in used] for row in kept]


def _without_end(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _cell(value: object) -> str:
    """A cell on one line, as a reader would see it: 3.0 is 3, a date has no hour."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime) and value.time() == time.min:
        value = value.date()
    return " ".join(str(value).split()).replace("|", "\\|")


def _json(content: bytes) -> str:
    found = _loaded(_plain(content))
    blocks = _members(found) if isinstance(found, dict) else _records(found if isinstance(found, list) else [found])
    return "\n\n".join(filter(None, blocks))


def _jsonl(content: bytes) -> str:
    lines = enumerate(_plain(content).split("\n"), start=1)
    return "\n\n".join(_records([_loaded(line, f"line {number} ") for number, line in lines if line.strip()]))


def _loaded(text: str, where: str = "") -> Any:
    """What JSON holds, with its numbers as they are written there: 1.10 stays 1.10."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as problem:
        place = f"column {problem.colno}" if where else f"line {problem.lineno}, column {problem.colno}"
        raise DocumentError(f"{where}is not JSON ({place}: {problem.msg})") from problem


def _members(found: dict[str, Any]) -> Iterator[str]:
    """An object's own lines, then a paragraph for each object in it, then a section for each list of objects."""
    lists = {key: value for key, value in found.items() if _is_list_of_objects(value)}
    objects = {key: value for key, value in found.items() if isinstance(value, dict)}
    yield _lines({key: value for key, value in found.items() if key not in lists.keys() | objects.keys()})
    for key, value in objects.items():
        yield _lines(value, key)
    for key, value in lists.items():
        yield f"# {_heading(key)}"
        yield from _records(value, level=2)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _records(records: list[Any], level: int = 1) -> Iterator[str]:
    """Each record as a paragraph under its title. Among titled ones, one without must not stand below another's."""
    titles = [_title(record) for record in records]
    for record, title in zip(records, titles, strict=True):
        body = _lines(record)
        if body and any(titles):
            yield f"{'#' * level} {title or 'Record'}"
        if body:
            yield body


def _title(record: object) -> str:
    if not isinstance(record, dict):
        return ""
    fields = {key.lower(): value for key, value in record.items() if isinstance(value, str)}
    return next((_heading(fields[key]) for key in _TITLE_KEYS if fields.get(key, "").strip()), "")


def _heading(text: str) -> str:
    return textwrap.shorten(text, HEADING_CHARACTERS, placeholder=" …")


def _lines(value: object, key: str = "") -> str:
    """A line `key: value` for each text in `value`; one of several lines stands below its key."""
    texts = [(name, text, "\n" if "\n" in text else " ") for name, text in _pairs(value, key) if text]
    return "\n".join(f"{name}:{gap}{text}" if name else text for name, text, gap in texts)


def _pairs(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Every text in `value` with the keys that lead to it, joined by dots; a list of texts is one text."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _pairs(one, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        for number, one in enumerate(value, start=1):
            yield from _pairs(one, f"{key}.{number}" if key else str(number))
    elif isinstance(value, list):
        yield key, ", ".join(filter(None, map(_scalar, value)))
    else:
        yield key, _scalar(value)


def _scalar(value: object) -> str:
    """A text of JSON as it is, but that its headings rank below the record's own."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\r\n", "\n").replace("\r", "\n").strip()
    return re.sub(r"^(?=#{1,6}\s)", "##", text, flags=re.MULTILINE)


def _notebook(content: bytes) -> str:
    """The cells as they were written; what running them printed is left out."""
    notebook = _loaded(_plain(content))
    try:
        language = notebook.get("metadata", {}).get("language_info", {}).get("name", "python")
        cells = [_notebook_cell(cell["cell_type"], "".join(cell["source"]), language) for cell in notebook["cells"]]
    except (AttributeError, KeyError, TypeError) as problem:
        raise DocumentError("is not a notebook of today's format: save it with a current Jupyter") from problem
    return "\n\n".join(filter(None, cells))


def _notebook_cell(kind: str, source: str, language: str) -> str:
    source = source.replace("\r\n", "\n").strip("\n")
    if kind != "code" or not source.strip():
        return source.strip()
    fence = max(["``", *re.findall(r"`+", source)], key=len) + "`"
    return f"{fence}{language}\n{source}\n{fence}"


def _pdf(content: bytes) -> str:
    if b"%PDF-" not in content[:_PDF_MARGIN]:
        raise DocumentError("is not a PDF")
    if b"%%EOF" not in content[-_PDF_MARGIN:]:
        raise DocumentError("is cut off: the end of the PDF is missing")
    # A glyph that the file does not tell the letter of comes out as a number.
    text = _tidy(re.sub(r"\(cid:\d+\)", "", _pdf_pages(content).translate(_LIGATURES)))
    if not text:
        raise DocumentError("holds no text: is it scanned?")
    return text


def _pdf_pages(content: bytes) -> str:
    """What stands on the pages, in paragraphs.

    Not by markitdown: version 0.1.8 takes prose for forms, so that words lose the blanks between them.
    """
    try:
        from pdfminer.high_level import extract_text
        from pdfminer.pdfdocument import PDFPasswordIncorrect
    except ImportError as problem:
        raise DocumentError(MISSING) from problem
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    try:
        return str(extract_text(BytesIO(content)))
    except PDFPasswordIncorrect as problem:
        raise DocumentError(PROTECTED) from problem


def _docx(content: bytes) -> str:
    _check_package(content, ".docx")
    return _tidy(_without_pictures(_converted("DocxConverter", ".docx", content, **_WORD_OPTIONS)))


def _pptx(content: bytes) -> str:
    _check_package(content, ".pptx")
    text = _without_pictures(_converted("PptxConverter", ".pptx", content)).replace("\v", " ")
    slides = re.split(r"<!-- Slide number: \d+ -->", text)[1:]
    return "\n\n".join(filter(None, (_slide(number, slide) for number, slide in enumerate(slides, start=1))))


def _slide(number: int, text: str) -> str:
    """A slide under its title, which may stand anywhere on it; one that is only a title says it as its text too."""
    title = re.search(r"^# (.*\S)", text, flags=re.MULTILINE)
    heading = title[1] if title else f"Slide {number}"
    body = _tidy(text[: title.start()] + text[title.end() :] if title else text)
    return f"# {heading}\n\n{body or heading}" if title or body else ""


def _xlsx(content: bytes) -> str:
    """Each sheet as a table. Not by markitdown: version 0.1.8 makes 2 of a column with gaps 2.0, and a gap NaN."""
    _check_package(content, ".xlsx")
    try:
        from openpyxl import load_workbook
    except ImportError as problem:
        raise DocumentError(MISSING) from problem
    sheets = []
    with closing(load_workbook(BytesIO(content), read_only=True, data_only=True)) as book:
        for sheet in book.worksheets:
            # The size that a sheet says it has may be that of the largest sheet there can be.
            sheet.reset_dimensions()
            sheets.append((sheet.title, _table(sheet.iter_rows(values_only=True))))
    return "\n\n".join(f"# {_heading(title)}\n\n{table}" for title, table in sheets if table)


def _check_package(content: bytes, ending: str) -> None:
    """Refuse an Office file that is encrypted, old, damaged, a bomb, or that defines entities, as none needs to."""
    if content.startswith(_OLD_OFFICE):
        encrypted = "EncryptedPackage".encode("utf-16-le") in content
        raise DocumentError(PROTECTED if encrypted else f"is a file of an old Office version: save it as {ending}")
    try:
        with zipfile.ZipFile(BytesIO(content)) as package:
            _check_size(package.infolist(), len(content), MAX_UNPACKED_BYTES[ending])
            names = [name for name in package.namelist() if name.lower().endswith((".xml", ".rels"))]
            defines = any(b"<!DOCTYPE" in package.read(name).replace(b"\0", b"") for name in names)
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise DocumentError(f"is damaged, cut off, or not a {ending} file") from problem
    if defines:
        raise DocumentError("defines XML entities, which no Office file does")


def _check_size(parts: list[zipfile.ZipInfo], packed: int, limit: int) -> None:
    if any(part.flag_bits & 1 for part in parts):
        raise DocumentError(PROTECTED)
    unpacked = sum(part.file_size for part in parts)
    if unpacked > limit and unpacked > MAX_UNPACKED_RATIO * packed:
        raise DocumentError(f"unpacks from {packed} bytes to {unpacked}: a file like this is made to do harm")


def _converted(converter: str, ending: str, content: bytes, **options: Any) -> str:
    """What one converter of markitdown makes of `content`.

    The converter is named, since `MarkItDown.convert` tries others where one fails: a damaged file would become the
    text of its bytes, or a list of the files in it.
    """
    try:
        from markitdown import MissingDependencyException, StreamInfo, converters
    except ImportError as problem:
        raise DocumentError(MISSING) from problem
    logging.getLogger("bs4").setLevel(logging.CRITICAL)
    try:
        result = getattr(converters, converter)().convert(BytesIO(content), StreamInfo(extension=ending), **options)
    except MissingDependencyException as problem:
        raise DocumentError(MISSING) from problem
    return str(result.markdown)


def _without_pictures(text: str) -> str:
    """A picture's description in its place; the name of a file, or "Picture 3", of which one is made, says nothing."""

    def words(picture: re.Match[str]) -> str:
        description, target = picture.groups()
        says_nothing = re.sub(r"\W", "", description) + ".jpg" == target or _PICTURE_FILE.fullmatch(description)
        return "" if says_nothing else description

    return re.sub(r"!\[([^\]]*)\]\(([^)]*)\)", words, text)


def _tidy(text: str) -> str:
    """Without blanks at the ends of lines, with blank lines around tables, and with one where there are several."""
    lines = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    apart = re.sub(r"(?:^\|.*\|(?:\n|\Z))+", r"\n\g<0>\n", lines, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", apart).strip()


_READERS: dict[str, Callable[[bytes], str]] = {
    **dict.fromkeys(MARKDOWN | REST | TEXT, _plain),
    **dict.fromkeys(HTML, _html),
    **dict.fromkeys(TABLES, _csv),
    **dict.fromkeys(JSONL, _jsonl),
    ".json": _json,
    ".ipynb": _notebook,
    ".pdf": _pdf,
    ".docx": _docx,
    ".pptx": _pptx,
    ".xlsx": _xlsx,
}
FORMATS = frozenset(_READERS)
