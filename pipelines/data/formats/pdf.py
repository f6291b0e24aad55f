"""PDF files, read by pdfminer."""

from __future__ import annotations

import logging
import re
from io import BytesIO

from ragtide.pipelines.data.formats.errors import MISSING_LIBRARIES, PROTECTED, DocumentError
from ragtide.pipelines.data.formats.markdown import tidy_markdown

# Readers tolerate other bytes before a PDF's first line and after its last.
_MARGIN_BYTES = 2048
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "\u00ad": None, "\f": "\n\n"})


def convert_pdf(content: bytes) -> str:
    """The text of a PDF's pages, in paragraphs. Raises DocumentError for a truncated, protected or scanned file."""
    if b"%PDF-" not in content[:_MARGIN_BYTES]:
        raise DocumentError("is not a PDF")
    if b"%%EOF" not in content[-_MARGIN_BYTES:]:
        raise DocumentError("is truncated: the end of the PDF is missing")
    # A glyph for which the file names no character comes out as a number.
    text = tidy_markdown(re.sub(r"\(cid:\d+\)", "", _extract_pages(content).translate(_LIGATURES)))
    if not text:
        raise DocumentError("holds no text: it may be scanned")
    return text


def _extract_pages(content: bytes) -> str:
    """The text of all pages.

    Not by markitdown: version 0.1.8 mistakes prose for forms and drops the blanks between words.
    """
    try:
        from pdfminer.high_level import extract_text
        from pdfminer.pdfdocument import PDFPasswordIncorrect
    except ImportError as problem:
        raise DocumentError(MISSING_LIBRARIES) from problem
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    try:
        return str(extract_text(BytesIO(content)))
    except PDFPasswordIncorrect as problem:
        raise DocumentError(PROTECTED) from problem
