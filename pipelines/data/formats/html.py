"""HTML pages, converted to Markdown by markdownify."""

from __future__ import annotations

import re
from typing import Any

from ragtide.pipelines.data.formats.text import decode_text

HTML = frozenset({".html", ".htm"})
# Underscores and asterisks stay unescaped: a search for max_bytes would not match `max\_bytes`.
_OPTIONS: dict[str, Any] = {
    "heading_style": "ATX",
    "escape_underscores": False,
    "escape_asterisks": False,
    "table_infer_header": True,
}
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")


def convert_html(content: bytes) -> str:
    """A page as Markdown, without scripts, styles and templates."""
    # Imported with the first page: most runs convert none.
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    # Python's own parser takes time that grows with the square of what is not closed; this one reads in proportion.
    page = BeautifulSoup(_XML_DECLARATION.sub("", decode_text(content)), "lxml")
    for hidden in page(["script", "style", "template"]):
        hidden.decompose()
    return str(MarkdownConverter(**_OPTIONS).convert_soup(page))
