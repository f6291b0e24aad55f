"""Retrieval metrics: recall, nDCG and reciprocal rank of document rankings, computed by ir-measures.

Pure functions over rankings and relevance judgements; they open no index. Rankings are of documents, not passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ir_measures import RR, Measure, R, iter_calc, nDCG

Rankings = Mapping[str, Sequence[str]]
Judgements = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class RankingScores:
    """The `recall` at k, `ndcg10` and `mrr` (reciprocal rank within 10) of each question, and their means."""

    per_question: Mapping[str, Mapping[str, float]]

    @property
    def recall(self) -> float:
        return self._mean("recall")

    @property
    def ndcg10(self) -> float:
        return self._mean("ndcg10")

    @property
    def mrr(self) -> float:
        return self._mean("mrr")

    def values(self, name: str) -> list[float]:
        """Return one metric in the order of the questions, so that two searches can be compared pairwise."""
        return [scores[name] for scores in self.per_question.values()]

    def _mean(self, name: str) -> float:
        values = self.values(name)
        return sum(values) / len(values)


def score_rankings(rankings: Rankings, relevant: Judgements, k: int) -> RankingScores:
    """Score `rankings` (question -> documents, best first) by `relevant` (question -> {document: grade}).

    A document of grade 0 is not relevant. nDCG takes the grade itself as the gain, as trec_eval does. An empty ranking
    scores 0. Raises ValueError where there is no question, where a question has no relevant document, and where a
    ranking contains a document twice.
    """
    if not rankings:
        raise ValueError("there are no questions to score")
    for question, ranking in rankings.items():
        _validate(question, ranking, relevant.get(question, {}))
    measures: dict[Measure, str] = {R @ k: "recall", nDCG @ 10: "ndcg10", RR @ 10: "mrr"}
    judgements = {question: dict(relevant[question]) for question in rankings}
    scores = {question: dict.fromkeys(measures.values(), 0.0) for question in rankings}
    run = {question: _descending_scores(ranking) for question, ranking in rankings.items()}
    for metric in iter_calc(list(measures), judgements, run):
        scores[metric.query_id][measures[metric.measure]] = float(metric.value)
    return RankingScores(scores)


def unique_documents(documents: Iterable[str]) -> list[str]:
    """Return the document ranking of a passage ranking: each document has the rank of its first passage."""
    return list(dict.fromkeys(documents))


def _validate(question: str, ranking: Sequence[str], grades: Mapping[str, int]) -> None:
    if not any(grade > 0 for grade in grades.values()):
        raise ValueError(f"question {question!r} has no relevant document, so that it cannot be scored")
    if len(set(ranking)) != len(ranking):
        raise ValueError(f"the ranking of question {question!r} holds a document twice: keep only its first rank")


def _descending_scores(ranking: Sequence[str]) -> dict[str, float]:
    """Return a score per document that falls with its rank: trec_eval sorts by score."""
    return {document: float(len(ranking) - at) for at, document in enumerate(ranking)}
