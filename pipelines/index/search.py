"""Search of one version of the index: by vector, by full text, or both fused, with an optional reranker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lancedb.query import MatchQuery

from ragtide.pipelines.index.context import ContextSize, assemble_context, page_of_context
from ragtide.pipelines.index.lance_errors import translate_lance_errors
from ragtide.pipelines.index.rows import read_chunks
from ragtide.pipelines.models.reranker import Reranker
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.ports import Embedder, Vectors
from ragtide.pipelines.records.data import OVERVIEW

SHOWN = ("document", "position", "heading", "text")
# Rows of each ranking that enter the fusion: fixed, since normalised scores depend on it (docs/log.md).
DEPTH = 100
# Weight of the vector ranking in a sum of scores; better than either ranking on three data sets (docs/log.md).
VECTOR_SHARE = 0.6
# The constant of reciprocal rank fusion, from the paper.
RRF_K = 60
# Passages that a reranker reads, and how many exact distances an approximate index computes for each result.
RERANKED = 30
REFINE = 10
# Questions whose vectors are cached: a cycle asks hundreds, a service runs for months.
KEPT_QUESTIONS = 10_000
# Rows ranked for each hit of a context: they show which page a question is about.
RANKED_FOR_EACH = 2
Row = dict[str, Any]
Scored = tuple[float, Row]


@dataclass(frozen=True)
class Passage:
    """A chunk that a search returned; it is ranked by `score`, higher is better."""

    document: str
    position: int
    heading: str
    text: str
    score: float

    @property
    def is_overview(self) -> bool:
        return self.position == OVERVIEW


@dataclass(frozen=True)
class NearestPassage:
    """A question's vector, and the document and cosine similarity of the passage that is nearest to it.

    `keys` (document, position) are those of the nearest passages, and `reach` is the similarity of the last of them;
    below every similarity where the index has fewer passages than were asked for.
    """

    question: Vectors
    document: str
    similarity: float
    keys: tuple[tuple[str, int], ...] = ()
    reach: float = -1.0


@dataclass(frozen=True)
class ScoredRows:
    """One ranking, best first; `floor` is the score of rows that are not in it."""

    rows: list[Scored]
    floor: float


@dataclass(frozen=True)
class SearchSettings:
    """How an index is searched.

    `by` is "hybrid", "vector" or "text"; `fusion` of a hybrid search is by "scores" or "ranks"; `prefix` is put before
    each question when it is embedded; `reranker` reorders the results; `max_words` are those of a full passage.
    """

    by: str = "hybrid"
    fusion: str = "scores"
    prefix: str = ""
    reranker: Reranker | None = None
    max_words: int = ChunkParams().max_words


@translate_lance_errors
class Retriever:
    """Searches one version of the index."""

    def __init__(self, table: Any, embedder: Embedder, settings: SearchSettings, approximate: bool = False) -> None:
        self._table = table
        self._embedder = embedder
        self._settings = settings
        self._approximate = approximate
        self._vectors: dict[str, Vectors] = {}

    @property
    def version(self) -> int:
        return int(self._table.version)

    def search(self, questions: Sequence[str], top_k: int, by: str | None = None) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first.

        `by` is "hybrid" (vector and full text, fused), "vector" or "text"; None: as in the settings.
        """
        if self._table.count_rows() == 0:
            return [[] for _ in questions]
        by = by or self._settings.by
        vectors = self._embed(questions) if by != "text" else {}
        return [self._search(question, vectors.get(question), top_k, by) for question in questions]

    def contexts(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        """For each question the passages of its prompt: the first `top_k` of a search, or a whole page (context.py)."""
        rankings, size = self.search(questions, RANKED_FOR_EACH * top_k), ContextSize(top_k, self._settings.max_words)
        # Read at once: each reading goes through the whole table.
        pages = self._read_pages({page for ranked in rankings if (page := page_of_context(ranked, top_k))})
        return [
            assemble_context(question, ranked, pages.__getitem__, size)
            for question, ranked in zip(questions, rankings, strict=True)
        ]

    def _read_pages(self, documents: Collection[str]) -> dict[str, list[Passage]]:
        """Document -> its overview and its passages, in order."""
        pages: dict[str, list[Passage]] = {document: [] for document in documents}
        for chunk in read_chunks(self._table, documents):
            pages[chunk.document].append(Passage(**{name: getattr(chunk, name) for name in SHOWN}, score=0.0))
        return pages

    def nearest(self, questions: Sequence[str], count: int = 1) -> list[NearestPassage]:
        """Each question's vector, with its `count` nearest passages by vector; none in an empty index."""
        if self._table.count_rows() == 0:
            return []
        vectors = self._embed(questions)
        return [
            _nearest(vectors[question], self._search_vectors(vectors[question], count), count) for question in questions
        ]

    def _embed(self, questions: Sequence[str]) -> dict[str, Vectors]:
        """Question -> vector, cached: a cycle asks its golden questions several times."""
        if len(self._vectors) >= KEPT_QUESTIONS:
            self._vectors.clear()
        new = [question for question in dict.fromkeys(questions) if question not in self._vectors]
        if new:
            prefixed = [self._settings.prefix + question for question in new]
            self._vectors |= dict(zip(new, self._embedder.embed(prefixed), strict=True))
        return self._vectors

    def _search(self, text: str, vector: Vectors | None, top_k: int, by: str) -> list[Passage]:
        reranker = self._settings.reranker
        wanted = max(top_k, RERANKED) if reranker else top_k
        rankings = []
        if vector is not None:
            rankings.append(_rank(lambda limit: self._search_vectors(vector, limit), wanted))
        if by != "vector":
            rankings.append(_rank(lambda limit: self._search_text(text, limit), wanted))
        passages = FUSIONS[self._settings.fusion](rankings)[:wanted]
        if reranker:
            passages = _reorder(passages, reranker.score(text, [passage.text for passage in passages]))
        return passages[:top_k]

    def _search_vectors(self, vector: Vectors, limit: int) -> list[Scored]:
        query = self._table.search(vector).distance_type("cosine").select([*SHOWN, "_distance"])
        if self._approximate:
            query = query.refine_factor(REFINE)
        return [(1 - row["_distance"], row) for row in query.limit(limit).to_list()]

    def _search_text(self, text: str, limit: int) -> list[Scored]:
        # As a match query: LanceDB would take a question in quotation marks for a phrase, which needs positions.
        query = self._table.search(MatchQuery(text, "text"), query_type="fts").select([*SHOWN, "_score"])
        return [(row["_score"], row) for row in query.limit(limit).to_list()]


def _nearest(vector: Vectors, rows: Sequence[Scored], count: int) -> NearestPassage:
    similarity, row = rows[0]
    reach = rows[-1][0] if len(rows) == count else -1.0
    return NearestPassage(vector, row["document"], similarity, tuple(_key(row) for _, row in rows), reach)


def _rank(find: Callable[[int], list[Scored]], wanted: int) -> ScoredRows:
    """Rows by score, highest first, and equals by key; rows that tie with the first one past the cut-off are dropped.

    LanceDB varies the order of rows of equal score, and the choice among them at the cut-off, from query to query; a
    paired comparison needs the same passages for the same question (docs/log.md, 2026-11-24). If ties leave fewer than
    `wanted` rows, the cut-off is raised.
    """
    depth = max(DEPTH, wanted)
    while True:
        rows = find(depth + 1)
        is_complete = len(rows) <= depth
        cut_off = min((score for score, _ in rows), default=0.0)
        kept = [(score, row) for score, row in rows if is_complete or score > cut_off]
        if len(kept) >= wanted or is_complete:
            break
        depth *= 4
    lowest = min((score for score, _ in kept), default=0.0)
    # If the ranking is complete, other rows have nothing in common with the question: their score is 0.
    floor = min(0.0, lowest) if is_complete else lowest
    return ScoredRows(sorted(kept, key=lambda pair: (-pair[0], *_key(pair[1]))), floor)


def _fuse_scores(rankings: Sequence[ScoredRows]) -> list[Passage]:
    """The weighted sum of the scores of each ranking, normalised to 0..1 over its rows; rows not in a ranking have 0.

    Source: Bruch, Gai, Ingber 2023, An Analysis of Fusion Functions for Hybrid Retrieval (arXiv:2210.11934).
    """
    weights = (VECTOR_SHARE, 1 - VECTOR_SHARE) if len(rankings) > 1 else (1.0,)
    weighted = zip(weights, rankings, strict=True)
    return _sum_scores([[(weight * score, row) for score, row in _normalise(ranking)] for weight, ranking in weighted])


def _normalise(ranking: ScoredRows) -> list[Scored]:
    highest = max((score for score, _ in ranking.rows), default=0.0)
    width = highest - ranking.floor
    return [((score - ranking.floor) / width if width > 0 else 1.0, row) for score, row in ranking.rows]


def _fuse_ranks(rankings: Sequence[ScoredRows]) -> list[Passage]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the rankings.

    Source: Cormack, Clarke, Buettcher 2009, Reciprocal Rank Fusion.
    """
    return _sum_scores(
        [[(1 / (RRF_K + rank), row) for rank, (_, row) in enumerate(ranking.rows, start=1)] for ranking in rankings]
    )


def _sum_scores(rankings: Sequence[Sequence[Scored]]) -> list[Passage]:
    """Passages by the sum of their scores, highest first; equals by key."""
    scores: dict[tuple[str, int], float] = {}
    rows: dict[tuple[str, int], Row] = {}
    for ranking in rankings:
        for score, row in ranking:
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


def _reorder(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    scored = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: (-passage.score, passage.document, passage.position))
