"""Pages of each step: a fixed sample of Django's documentation, then one change per step."""

from __future__ import annotations

import random
import re
from pathlib import Path

from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Document

SOURCE = "django_docs/snapshot_00"
STEPS = {
    "initial": "first build",
    "noop": "nothing changed",
    "edit": "1 page edited",
    "delete": "1 page deleted",
    "add": "1 page added",
}
# The order used is the one, of this many, whose first 40 pages have closest to 600 chunks: page sizes differ a
# hundredfold.
ORDERS = 20
TYPICAL = (40, 600)
Pages = dict[str, str]


def read_source(data: Path) -> Pages:
    """Return every page by its name; the reStructuredText files have the suffix .txt in the data."""
    folder = data / SOURCE
    paths = sorted(folder.rglob("*.txt"))
    return {path.relative_to(folder).with_suffix(".rst").as_posix(): path.read_text("utf-8") for path in paths}


def pages_by_step(source: Pages, count: int) -> dict[str, Pages]:
    """Return the pages of each step: `count` pages, then one edited, one removed and one added."""
    names = _order(source)
    start = {name: source[name] for name in names[:count]}
    edited, removed = _average(start)[:2]
    added = _average({name: source[name] for name in names[count : 2 * count]})[0]
    after_edit = start | {edited: edit_one_chunk(edited, start[edited])}
    after_delete = {name: text for name, text in after_edit.items() if name != removed}
    after_add = after_delete | {added: source[added]}
    return dict(zip(STEPS, (start, start, after_edit, after_delete, after_add), strict=True))


def chunks_of(name: str, text: str) -> list[str]:
    """Return the texts of a page's chunks."""
    return [chunk.text for chunk in chunk_document(Document(id=name, text=text, digest=""), ChunkParams())]


def all_chunks(pages: Pages) -> list[str]:
    """Return the texts of all pages' chunks."""
    return [chunk for name, text in pages.items() for chunk in chunks_of(name, text)]


def edit_one_chunk(name: str, text: str) -> str:
    """Replace one word of the page so that the text of exactly one chunk changes."""
    before = chunks_of(name, text)
    for word in list(re.finditer(r"\b[a-z]{5,}\b", text))[len(text.split()) // 4 :]:
        edited = f"{text[: word.start()]}rewritten{text[word.end() :]}"
        after = chunks_of(name, edited)
        if len(after) == len(before) and sum(old != new for old, new in zip(before, after, strict=True)) == 1:
            return edited
    raise SystemExit(f"bench.peers: no word of {name} occurs in one chunk alone; a longer page is needed")


def write_pages(pages: Pages, folder: Path) -> None:
    """Make `folder` hold exactly these pages; a file that already holds its page is not written."""
    for path in folder.rglob("*.rst"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


def _order(source: Pages) -> list[str]:
    sizes = {name: len(chunks_of(name, text)) for name, text in source.items()}
    count, chunks = TYPICAL
    orders = [random.Random(seed).sample(sorted(source), len(source)) for seed in range(ORDERS)]
    return min(orders, key=lambda order: abs(sum(sizes[name] for name in order[:count]) - chunks))


def _average(pages: Pages) -> list[str]:
    """Return the names of the pages, sorted by how close their number of chunks is to the mean."""
    sizes = {name: len(chunks_of(name, text)) for name, text in pages.items()}
    mean = sum(sizes.values()) / len(sizes)
    return sorted(pages, key=lambda name: (abs(sizes[name] - mean), name))
