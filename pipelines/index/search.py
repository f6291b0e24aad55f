"""Which passages answer a question? One version of the index, searched by vector, by words, or by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lancedb.query import MatchQuery

from ragtide.pipelines.index.lance_errors import translate_lance_errors
from ragtide.pipelines.models.reranker import Reranker
from ragtide.pipelines.ports import Embedder, Vectors

SHOWN = ("document", "position", "heading", "text")
# Rows that each half of a search brings into the fusion: fixed, since stretched scores depend on it (docs/log.md).
DEPTH = 100
# What the vectors' half counts for in a sum of scores: above the better half on three sets (docs/log.md).
VECTOR_SHARE = 0.6
# The constant of the paper.
RRF_K = 60
# What a reranker reads of a fused ranking, and how many exact distances an approximate index works out for each row.
RERANKED = 30
REFINE = 10
# Questions whose vectors are kept: a turn of the loop asks hundreds, a service goes on asking for months.
KEPT_QUESTIONS = 10_000
Row = dict[str, Any]
Scored = tuple[float, Row]


@dataclass(frozen=True)
class Passage:
    """A chunk that a search found; `score` is what it was ranked by, higher is nearer."""

    document: str
    position: int
    heading: str
    text: str
    score: float


@dataclass(frozen=True)
class ScoredRows:
    """What one half of a search found, best first, and the score that stands for nothing found."""

    rows: list[Scored]
    floor: float


@dataclass(frozen=True)
class SearchSettings:
    """How an index is asked.

    By "hybrid", "vector" or "text"; how the two halves are fused, by "scores" or "ranks"; what goes before a question,
    and who ranks again what was found.
    """

    by: str = "hybrid"
    fusion: str = "scores"
    prefix: str = ""
    reranker: Reranker | None = None


@translate_lance_errors
class Retriever:
    """One version of the index, for searching."""

    def __init__(self, table: Any, embedder: Embedder, asking: SearchSettings, approximate: bool = False) -> None:
        self._table = table
        self._embedder = embedder
        self._asking = asking
        self._approximate = approximate
        self._vectors: dict[str, Vectors] = {}

    @property
    def version(self) -> int:
        return int(self._table.version)

    def search(self, questions: Sequence[str], top_k: int, by: str | None = None) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first.

        `by` is "hybrid" (vector and full text, fused), "vector" or "text"; None as params.yaml says.
        """
        if self._table.count_rows() == 0:
            return [[] for _ in questions]
        by = by or self._asking.by
        vectors = self._embedded(questions) if by != "text" else {}
        return [self._search(question, vectors.get(question), top_k, by) for question in questions]

    def _embedded(self, questions: Sequence[str]) -> dict[str, Vectors]:
        """Question -> vector; golden questions are asked several times in a turn, and embedded once."""
        if len(self._vectors) >= KEPT_QUESTIONS:
            self._vectors.clear()
        new = [question for question in dict.fromkeys(questions) if question not in self._vectors]
        if new:
            prefixed = [self._asking.prefix + question for question in new]
            self._vectors |= dict(zip(new, self._embedder.embed(prefixed), strict=True))
        return self._vectors

    def _search(self, text: str, vector: Vectors | None, top_k: int, by: str) -> list[Passage]:
        reranker = self._asking.reranker
        wanted = max(top_k, RERANKED) if reranker else top_k
        halves = []
        if vector is not None:
            halves.append(_best(lambda limit: self._near(vector, limit), wanted))
        if by != "vector":
            halves.append(_best(lambda limit: self._worded(text, limit), wanted))
        found = FUSIONS[self._asking.fusion](halves)[:wanted]
        if reranker:
            found = _reordered(found, reranker.score(text, [passage.text for passage in found]))
        return found[:top_k]

    def _near(self, vector: Vectors, limit: int) -> list[Scored]:
        query = self._table.search(vector).distance_type("cosine").select([*SHOWN, "_distance"])
        if self._approximate:
            query = query.refine_factor(REFINE)
        return [(1 - row["_distance"], row) for row in query.limit(limit).to_list()]

    def _worded(self, text: str, limit: int) -> list[Scored]:
        # As a match of words: LanceDB would take a question in quotation marks for a phrase, which needs positions.
        query = self._table.search(MatchQuery(text, "text"), query_type="fts").select([*SHOWN, "_score"])
        return [(row["_score"], row) for row in query.limit(limit).to_list()]


def _best(find: Callable[[int], list[Scored]], wanted: int) -> ScoredRows:
    """Rows by score, highest first, and equals by key; what ties with the first row past the cut-off is left out.

    LanceDB returns rows of equal score in another order, and at the cut-off another choice, from query to query; a
    paired comparison needs the same question to find the same passages (docs/log.md, 2026-11-24). Where ties leave
    fewer than `wanted`, the cut-off moves on.
    """
    depth = max(DEPTH, wanted)
    while True:
        found = find(depth + 1)
        past = min((score for score, _ in found), default=0.0)
        kept = [(score, row) for score, row in found if len(found) <= depth or score > past]
        if len(kept) >= wanted or len(found) <= depth:
            break
        depth *= 4
    lowest = min((score for score, _ in kept), default=0.0)
    # Where everything was found, what was not has nothing in common with the question: a score of 0 in either half.
    floor = min(0.0, lowest) if len(found) <= depth else lowest
    return ScoredRows(sorted(kept, key=lambda pair: (-pair[0], *_key(pair[1]))), floor)


def _fuse_scores(halves: Sequence[ScoredRows]) -> list[Passage]:
    """The halves' scores, each stretched to 0..1 over what its half found, in a weighted sum; not found has 0.

    Source: Bruch, Gai, Ingber 2023, An Analysis of Fusion Functions for Hybrid Retrieval (arXiv:2210.11934).
    """
    weights = (VECTOR_SHARE, 1 - VECTOR_SHARE) if len(halves) > 1 else (1.0,)
    weighted = zip(weights, halves, strict=True)
    return _summed([[(weight * score, row) for score, row in _stretched(half)] for weight, half in weighted])


def _stretched(half: ScoredRows) -> list[Scored]:
    high = max((score for score, _ in half.rows), default=0.0)
    width = high - half.floor
    return [((score - half.floor) / width if width > 0 else 1.0, row) for score, row in half.rows]


def _fuse_ranks(halves: Sequence[ScoredRows]) -> list[Passage]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the halves.

    Source: Cormack, Clarke, Buettcher 2009, Reciprocal Rank Fusion.
    """
    return _summed([[(1 / (RRF_K + rank), row) for rank, (_, row) in enumerate(half.rows, start=1)] for half in halves])


def _summed(halves: Sequence[Sequence[Scored]]) -> list[Passage]:
    """Passages by the sum of their scores; of equals the first by key."""
    scores: dict[tuple[str, int], float] = {}
    rows: dict[tuple[str, int], Row] = {}
    for half in halves:
        for score, row in half:
            rows[_key(row)] = row
            scores[_key(row)] = scores.get(_key(row), 0.0) + score
    best = sorted(scores, key=lambda key: (-round(scores[key], 6), key))
    return [Passage(**{name: rows[key][name] for name in SHOWN}, score=round(scores[key], 6)) for key in best]


FUSIONS: dict[str, Callable[[Sequence[ScoredRows]], list[Passage]]] = {
    "scores": _fuse_scores,
    "ranks": _fuse_ranks,
}


def _key(row: Row) -> tuple[str, int]:
    return (row["document"], row["position"])


def _reordered(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    scored = [replace(one, score=score) for one, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda one: (-one.score, one.document, one.position))
