"""Plain text, Markdown and reStructuredText: decoding of bytes, with one kind of line end."""

from __future__ import annotations

import codecs
import unicodedata

from ragtide.pipelines.data.formats.errors import DocumentError

MARKDOWN = frozenset({".md", ".markdown"})
REST = frozenset({".rst"})
TEXT = frozenset({".txt", ".text"})
# A text has next to no characters that no script has. Fewer bytes than these may be UTF-8 and UTF-16 at once.
MAX_ODD_SHARE, LEAST_BYTES = 0.05, 16


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
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DocumentError(f"is not {name} (byte {problem.start}): save it as UTF-8") from problem
    if is_utf_16 and not _is_utf_16(content[2:], text):
        raise DocumentError("has a byte order mark of UTF-16 and other bytes behind it: save it as UTF-8")
    return text


def _is_utf_16(content: bytes, text: str) -> bool:
    """Whether bytes behind the mark of UTF-16 are UTF-16 indeed: almost any bytes make characters in it.

    UTF-8 read as UTF-16 has no white space; other bytes make characters that no text has.
    """
    if sum(unicodedata.category(character) in ("Cn", "Co") for character in text) > MAX_ODD_SHARE * len(text):
        return False
    if b"\0" in content or len(content) < LEAST_BYTES:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False
