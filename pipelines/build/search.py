"""Which passages answer a question? One version of the index, searched by vector, by words, or by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lancedb.query import MatchQuery

from pipelines.build.rerank import Reranker
from pipelines.ports import Embedder, Vectors

SHOWN = ("document", "position", "heading", "text")
# Rows that each half of a search brings into the fusion, and the constant of the paper that it comes from.
DEPTH = 50
RRF_K = 60
# What a reranker reads of a fused ranking, and how many exact distances an approximate index works out for each row.
RERANKED = 30
REFINE = 10
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
class Asking:
    """How an index is asked: by "hybrid", "vector" or "text", what goes before a question, and who ranks again."""

    by: str = "hybrid"
    prefix: str = ""
    reranker: Reranker | None = None


class Reader:
    """One version of the index, for searching."""

    def __init__(self, table: Any, embedder: Embedder, asking: Asking, approximate: bool = False) -> None:
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

        `by` is "hybrid" (vector and full text, fused by reciprocal rank), "vector" or "text"; None as params.yaml says.
        Source: Cormack, Clarke, Buettcher 2009, Reciprocal Rank Fusion.
        """
        if self._table.count_rows() == 0:
            return [[] for _ in questions]
        by = by or self._asking.by
        vectors = self._embedded(questions) if by != "text" else {}
        return [self._search(question, vectors.get(question), top_k, by) for question in questions]

    def _embedded(self, questions: Sequence[str]) -> dict[str, Vectors]:
        """Question -> vector; golden questions are asked several times in a turn, and embedded once."""
        new = [question for question in dict.fromkeys(questions) if question not in self._vectors]
        if new:
            prefixed = [self._asking.prefix + question for question in new]
            self._vectors |= dict(zip(new, self._embedder.embed(prefixed), strict=True))
        return self._vectors

    def _search(self, text: str, vector: Vectors | None, top_k: int, by: str) -> list[Passage]:
        reranker = self._asking.reranker
        depth = max(top_k, RERANKED) if reranker else top_k
        halves = []
        if vector is not None:
            halves.append(_ranked(lambda limit: self._near(vector, limit), depth))
        if by != "vector":
            halves.append(_ranked(lambda limit: self._worded(text, limit), depth))
        found = _fuse(halves)[:depth]
        if reranker:
            found = _reordered(found, reranker.score(text, [passage.text for passage in found]))
        return found[:top_k]

    def _near(self, vector: Vectors, limit: int) -> list[Scored]:
        query = self._table.search(vector).distance_type("cosine").select([*SHOWN, "_distance"])
        if self._approximate:
            query = query.refine_factor(REFINE)
        return [(row["_distance"], row) for row in query.limit(limit).to_list()]

    def _worded(self, text: str, limit: int) -> list[Scored]:
        # As a match of words: LanceDB would take a question in quotation marks for a phrase, which needs positions.
        query = self._table.search(MatchQuery(text, "text"), query_type="fts").select([*SHOWN, "_score"])
        return [(-row["_score"], row) for row in query.limit(limit).to_list()]


def _ranked(find: Callable[[int], list[Scored]], top_k: int) -> list[Row]:
    """Rows by score, lowest first, and equals by key; what ties with the first row past the cut-off is left out.

    LanceDB returns rows of equal score in another order, and at the cut-off another choice, from query to query; a
    paired comparison needs the same question to find the same passages (docs/log.md, 2026-11-24). Where ties leave
    fewer than `top_k`, the cut-off moves on.
    """
    depth = max(DEPTH, 4 * top_k)
    while True:
        found = find(depth + 1)
        past = max((score for score, _ in found), default=0.0)
        kept = [(score, row) for score, row in found if len(found) <= depth or score < past]
        if len(kept) >= top_k or len(found) <= depth:
            break
        depth *= 4
    ordered = sorted(kept, key=lambda pair: (pair[0], pair[1]["document"], pair[1]["position"]))
    return [row for _, row in ordered]


def _fuse(rankings: Sequence[Sequence[Row]]) -> list[Passage]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the rankings; of equals the first by key."""
    scores: dict[tuple[str, int], float] = {}
    rows: dict[tuple[str, int], Row] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            key = (row["document"], row["position"])
            rows[key] = row
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_K + rank)
    best = sorted(scores, key=lambda key: (-scores[key], key))
    return [Passage(**{name: rows[key][name] for name in SHOWN}, score=round(scores[key], 6)) for key in best]


def _reordered(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    scored = [
        Passage(**{name: getattr(one, name) for name in SHOWN}, score=score)
        for one, score in zip(passages, scores, strict=True)
    ]
    return sorted(scored, key=lambda one: (-one.score, one.document, one.position))
