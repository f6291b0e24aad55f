"""What does a document say? Files of the knowledge base as text: Markdown, plain text, reStructuredText, HTML."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning
from markdownify import MarkdownConverter

from pipelines.errors import RefusalError
from pipelines.observe.snapshot import read_file
from pipelines.records import Document, Snapshot

MARKDOWN = frozenset({".md", ".markdown"})
REST = frozenset({".rst"})
HTML = frozenset({".html", ".htm"})
TEXT = frozenset({".txt", ".text"})
FORMATS = MARKDOWN | REST | HTML | TEXT


def is_document(path: str) -> bool:
    """Whether Ragtide reads files of this name; others lie in the folder unread."""
    return PurePosixPath(path).suffix.lower() in FORMATS


def read_documents(folder: Path, snapshot: Snapshot, max_bytes: int) -> list[Document]:
    """The documents of `snapshot`, read from `folder` and checked against the snapshot's digests, in order of path.

    Raises RefusalError for a file that changed since the snapshot, is too large, is not UTF-8, or for an empty folder.
    """
    paths = [path for path in sorted(snapshot.documents) if is_document(path)]
    if not paths:
        raise RefusalError(f"{folder} holds no documents: put {', '.join(sorted(FORMATS))} files there")
    return [_read(folder, path, snapshot.documents[path], max_bytes) for path in paths]


def _read(folder: Path, path: str, digest: str, max_bytes: int) -> Document:
    content = read_file(folder / path, digest)
    if len(content) > max_bytes:
        limit = f"{len(content)} bytes, over observe.max_document_bytes = {max_bytes}"
        raise RefusalError(f"{folder / path} has {limit}: split it, or raise the limit in params.yaml")
    return Document(id=path, text=as_text(folder / path, content), digest=digest)


def as_text(path: Path, content: bytes) -> str:
    """The text of a file's bytes; HTML as Markdown, so that its headings count. Raises RefusalError if not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise RefusalError(f"{path} is not UTF-8 (byte {problem.start}): save it as UTF-8") from problem
    return _from_html(path, text) if path.suffix.lower() in HTML else text.replace("\r\n", "\n").replace("\r", "\n")


def _from_html(path: Path, text: str) -> str:
    with warnings.catch_warnings():
        # A page of one short line is a page, not the name of one.
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        page = BeautifulSoup(text, "html.parser")
    for unseen in page(["script", "style", "template"]):
        unseen.decompose()
    try:
        return str(MarkdownConverter(heading_style="ATX").convert_soup(page))
    except RecursionError as problem:
        raise RefusalError(f"{path} is nested too deeply to be read as HTML: simplify it or remove it") from problem
