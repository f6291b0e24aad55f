"""Plain text, Markdown and reStructuredText: decoding of bytes, with one kind of line end."""

from __future__ import annotations

import codecs

from ragtide.pipelines.data.formats.errors import DocumentError

MARKDOWN = frozenset({".md", ".markdown"})
REST = frozenset({".rst"})
TEXT = frozenset({".txt", ".text"})


def decode_text(content: bytes) -> str:
    """The text of UTF-8 or UTF-16 bytes (with a byte order mark), with line ends as newlines.

    Raises DocumentError for binary content or another encoding.
    """
    text = _decode(content)
    if "\0" in text:
        raise DocumentError("is binary, not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(content: bytes) -> str:
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not is_utf_16 and b"\0" in content:
        raise DocumentError("is binary, not text")
    name = "UTF-16" if is_utf_16 else "UTF-8"
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DocumentError(f"is not {name} (byte {problem.start}): save it as UTF-8") from problem
