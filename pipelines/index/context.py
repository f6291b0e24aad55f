"""Context of a prompt: the passages that a search returns, a whole page, or the overview of one.

One place decides it, so that evidence, proof, training samples and serving give a model the same. The words of a
context are bounded by those of as many full passages as a search returns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from ragtide.pipelines.data.reading.outline import count_words


class ContextPassage(Protocol):
    """A passage as a search returns it, or a chunk."""

    @property
    def document(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def heading(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def is_overview(self) -> bool: ...


PassageT = TypeVar("PassageT", bound=ContextPassage)
Key = tuple[str, int]
_WORD = re.compile(r"\w+(?:[.\-]\w+)*")


def take_hits(ranked: Sequence[PassageT], top_k: int) -> list[PassageT]:
    """The first `top_k` passages, and the overviews that outrank every passage of their page among them."""
    hits: list[PassageT] = []
    passages, seen = 0, set()
    for passage in ranked:
        if passages == top_k:
            break
        if not (passage.is_overview and passage.document in seen):
            hits.append(passage)
        passages += not passage.is_overview
        seen.add(passage.document)
    return hits


def assemble_context(
    question: str,
    hits: Sequence[PassageT],
    pages: Mapping[str, Sequence[PassageT]],
    words: int,
    required: Collection[Key] = (),
) -> list[PassageT]:
    """The context for a question from its hits, best first; `pages` are the chunks of the documents of the hits.

    A question is about a page as a whole where the page's overview outranks its passages, or where most hits are of the
    page of the first one, unless it names the heading of one of these. It gets that page in the order of the document
    if it fits in `words`, else its overview, for which hits of the lowest rank give way. Other questions get their
    hits, and what the section of the first one continues with. Chunks that are `required` do not give way.
    """
    limit = max(words, _count(hit for hit in hits if not hit.is_overview))
    whole_pages = _pages_asked_about(question, hits, pages)
    hits = [hit for hit in hits if not hit.is_overview or hit.document in whole_pages]
    if not whole_pages:
        return _add_neighbours(hits, pages, limit)
    context = _with_overviews(hits, whole_pages, pages)
    for document in whole_pages:
        whole = _with_page(context, document, pages.get(document, ()))
        context = whole if _count(whole) <= limit else context
    return _drop_lowest(context, limit, required)


def _pages_asked_about(
    question: str, hits: Sequence[ContextPassage], pages: Mapping[str, Sequence[ContextPassage]]
) -> list[str]:
    """The documents that a question is about as a whole, best first."""
    candidates = [hit.document for hit in hits if hit.is_overview]
    of_first = sum(hit.document == hits[0].document for hit in hits)
    if not candidates and len(hits) > 1 and 2 * of_first > len(hits):
        candidates = [hits[0].document]
    return [name for name in candidates if not _names_section(question, name, hits, pages.get(name, ()))]


def _names_section(
    question: str, document: str, hits: Sequence[ContextPassage], page: Sequence[ContextPassage]
) -> bool:
    """Whether a question has every word of the heading of one of a document's hits; the document's title is none."""
    headings = {hit.heading for hit in hits if hit.document == document and hit.heading and not hit.is_overview}
    titles = {chunk.heading.split(" > ", 1)[0] for chunk in page if chunk.heading and not chunk.is_overview}
    named = (heading for heading in headings if " > " in heading or len(titles) > 1)
    return any(_is_in(heading.rpartition(" > ")[2], question.casefold()) for heading in named)


def _with_overviews(
    hits: Sequence[PassageT], documents: Sequence[str], pages: Mapping[str, Sequence[PassageT]]
) -> list[PassageT]:
    """The hits, and the overviews of `documents` that are not among them, before all others."""
    missing = [name for name in documents if not any(hit.is_overview and hit.document == name for hit in hits)]
    return [*(chunk for name in missing for chunk in pages.get(name, ()) if chunk.is_overview), *hits]


def _is_in(heading: str, question: str) -> bool:
    """Whether a question has every word of a heading; scripts without blanks have it anywhere."""
    words, asked = set(_WORD.findall(heading.casefold())), set(_WORD.findall(question))
    return bool(words) and all(word in asked or (not word.isascii() and word in question) for word in words)


def _drop_lowest(hits: Sequence[PassageT], limit: int, required: Collection[Key]) -> list[PassageT]:
    """The hits without the last ones that are too many for `limit` words; the first one stays."""
    kept = [*hits]
    for hit in reversed(hits[1:]):
        if _count(kept) <= limit:
            break
        if (hit.document, hit.position) not in required:
            kept.remove(hit)
    return kept


def _with_page(context: Sequence[PassageT], document: str, page: Sequence[PassageT]) -> list[PassageT]:
    """The context with the passages of a page, in order, in the place of the first of its hits and instead of all."""
    at = next((at for at, hit in enumerate(context) if hit.document == document), len(context))
    passages = [chunk for chunk in page if not chunk.is_overview]
    others = [hit for hit in context[at:] if hit.document != document]
    return [*context[:at], *passages, *others] if passages else [*context]


def _add_neighbours(context: Sequence[PassageT], pages: Mapping[str, Sequence[PassageT]], limit: int) -> list[PassageT]:
    """The context with the passages before and after the first hit that its own section was cut into, as far as fit."""
    if not context:
        return []
    first, *others = context
    page = pages.get(first.document, ())
    section = {chunk.position: chunk for chunk in page if chunk.heading == first.heading and not chunk.is_overview}
    present = {(hit.document, hit.position) for hit in others}
    costs = {at: 0 if (chunk.document, at) in present else count_words(chunk.text) for at, chunk in section.items()}
    room, low, high = limit - _count(context), first.position, first.position
    while near := [at for at in (high + 1, low - 1) if costs.get(at, room + 1) <= room]:
        room -= costs[near[0]]
        low, high = min(low, near[0]), max(high, near[0])
    around = [first if at == first.position else section[at] for at in range(low, high + 1)]
    return [*around, *(hit for hit in others if not (hit.document == first.document and low <= hit.position <= high))]


def _count(passages: Iterable[ContextPassage]) -> int:
    return sum(count_words(passage.text) for passage in passages)
