"""Context of a prompt: the passages that a search returns, a whole page, or the overview of one.

One place decides it, so that evidence, proof, training samples and serving give a model the same. The words of a
context are bounded by those of as many full passages as a search returns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ContextSize:
    """How much a context has: `top_k` hits, and no more words than as many passages of `max_words`."""

    top_k: int
    max_words: int


def assemble_context(
    question: str,
    ranked: Sequence[PassageT],
    read_page: Callable[[str], Sequence[PassageT]],
    size: ContextSize,
    required: Collection[Key] = (),
) -> list[PassageT]:
    """The context for a question from what a search ranks first; `read_page` returns the chunks of a document in order.

    The hits are the first `top_k` passages. A question about a page as a whole gets that page in the order of the
    document if it fits, else its overview, for which hits of the lowest rank give way. Other questions get their hits,
    and what the section of the first one continues with. Chunks that are `required` do not give way.
    """
    hits = _first_passages(ranked, size.top_k)
    limit = max(size.top_k * size.max_words, _count(hits))
    document, needed = _page_asked_about(ranked, hits), page_of_context(ranked, size.top_k)
    page = read_page(needed) if needed else ()
    if document is None or _names_section(question, document, hits, page):
        return _add_neighbours(hits, page, limit)
    overview = [chunk for chunk in page if chunk.is_overview]
    whole = _with_page([*overview, *hits], document, page)
    return whole if _count(whole) <= limit else _drop_lowest([*overview, *hits], limit, required)


def page_of_context(ranked: Sequence[ContextPassage], top_k: int) -> str | None:
    """The document of which a context needs the page: the one asked about, else that of the first hit."""
    hits = _first_passages(ranked, top_k)
    return _page_asked_about(ranked, hits) or (hits[0].document if hits else None)


def _first_passages(ranked: Sequence[PassageT], top_k: int) -> list[PassageT]:
    return [passage for passage in ranked if not passage.is_overview][:top_k]


def _page_asked_about(ranked: Sequence[ContextPassage], hits: Sequence[ContextPassage]) -> str | None:
    """The document that a question may be about as a whole.

    It is the one of a hit that at least half of the ranked rows are of, or the first whose overview outranks its
    passages and the last of the hits.
    """
    rows = Counter(passage.document for passage in ranked)
    for document, count in rows.most_common(1):
        if len(ranked) > 1 and 2 * count >= len(ranked) and any(hit.document == document for hit in hits):
            return document
    seen: set[str] = set()
    for passage in ranked:
        if passage.is_overview and passage.document not in seen:
            return passage.document
        if hits and passage is hits[-1]:
            break
        seen.add(passage.document)
    return None


def _names_section(
    question: str, document: str, hits: Sequence[ContextPassage], page: Sequence[ContextPassage]
) -> bool:
    """Whether a question has every word of the heading of one of a document's hits; the document's title is none."""
    headings = {hit.heading for hit in hits if hit.document == document and hit.heading}
    titles = {chunk.heading.split(" > ", 1)[0] for chunk in page if chunk.heading and not chunk.is_overview}
    named = (heading for heading in headings if " > " in heading or len(titles) > 1)
    return any(_is_in(heading.rpartition(" > ")[2], question.casefold()) for heading in named)


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


def _add_neighbours(context: Sequence[PassageT], page: Sequence[PassageT], limit: int) -> list[PassageT]:
    """The context with the passages before and after the first hit that its own section was cut into, as far as fit."""
    if not context:
        return []
    first, *others = context
    own = (chunk for chunk in page if (chunk.document, chunk.heading) == (first.document, first.heading))
    section = {chunk.position: chunk for chunk in own if not chunk.is_overview}
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
