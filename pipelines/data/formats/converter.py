"""Converter from a document's bytes to Markdown text, selected by the file name's ending.

The output cuts well into passages: headings where the document has them, table rows below their column names, JSON
records as paragraphs of `key: value` lines. Nothing is fetched and no file is written. PDF, DOCX, PPTX and XLSX need
the extra `formats`, which is imported when the first such document is read.
"""

from __future__ import annotations

import importlib.util
import textwrap
import warnings
from collections.abc import Callable
from pathlib import PurePosixPath

from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.html import HTML, convert_html
from ragtide.pipelines.data.formats.json_records import JSONL, convert_json, convert_jsonl
from ragtide.pipelines.data.formats.notebook import convert_notebook
from ragtide.pipelines.data.formats.office import convert_docx, convert_pptx, convert_xlsx
from ragtide.pipelines.data.formats.pdf import convert_pdf
from ragtide.pipelines.data.formats.tables import TABLES, convert_csv
from ragtide.pipelines.data.formats.text import MARKDOWN, REST, TEXT, decode_text
from ragtide.pipelines.errors import summarize_error

# Changed by hand whenever the same bytes would give another text, through this package or a library's new version.
CONVERTER = "convert-2"
MESSAGE_CHARACTERS = 200
_CONVERTERS: dict[str, Callable[[bytes], str]] = {
    **dict.fromkeys(MARKDOWN | REST | TEXT, decode_text),
    **dict.fromkeys(HTML, convert_html),
    **dict.fromkeys(TABLES, convert_csv),
    **dict.fromkeys(JSONL, convert_jsonl),
    ".json": convert_json,
    ".ipynb": convert_notebook,
    ".pdf": convert_pdf,
    ".docx": convert_docx,
    ".pptx": convert_pptx,
    ".xlsx": convert_xlsx,
}
FORMATS = frozenset(_CONVERTERS)


def converter_signature() -> str:
    """Identifies which documents can be read: changes with CONVERTER and when the extra `formats` is installed."""
    libraries = ("markitdown", "pdfminer", "openpyxl")
    return f"{CONVERTER}+formats" if all(importlib.util.find_spec(name) for name in libraries) else CONVERTER


def is_document(path: str) -> bool:
    """Whether Ragtide reads files of this name; others in the folder are ignored."""
    return PurePosixPath(path).suffix.lower() in FORMATS


def convert_document(path: str, content: bytes) -> str:
    """The text of a document's bytes, the same for the same bytes; of `path` only the ending matters.

    Raises DocumentError where there is none, and MemoryError where there is no memory for it, and nothing else. Called
    in the processes that read documents (data/reading/process.py), which bound its time and memory.
    """
    convert = _CONVERTERS.get(PurePosixPath(path).suffix.lower())
    if convert is None:
        raise DocumentError(f"has no supported format: {', '.join(sorted(FORMATS))}")
    if not content.strip():
        raise DocumentError("is empty")
    with warnings.catch_warnings():
        # BeautifulSoup, for example, takes a page of one short line for a file name; the user can do nothing about it.
        warnings.simplefilter("ignore")
        text = _remove_unstorable(_convert_guarded(convert, content))
    if not text.strip():
        raise DocumentError("holds no text")
    return text


def _convert_guarded(convert: Callable[[bytes], str], content: bytes) -> str:
    try:
        return convert(content)
    except (DocumentError, MemoryError):
        raise
    except RecursionError as problem:
        raise DocumentError("is nested too deeply to be read: simplify it or remove it") from problem
    except Exception as problem:
        message = textwrap.shorten(summarize_error(problem), MESSAGE_CHARACTERS, placeholder=" …")
        raise DocumentError(f"its converter failed: {type(problem).__name__}: {message}") from problem


def _remove_unstorable(text: str) -> str:
    """`text` without NUL and lone surrogates, which no file or table can hold."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
