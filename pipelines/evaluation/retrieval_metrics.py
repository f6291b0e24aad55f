"""How well does the index find? Recall, nDCG and reciprocal rank of rankings against judgements; over ir-measures.

Pure: it takes what was found and what is relevant, and opens no index. A ranking is of documents, not passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ir_measures import RR, Measure, R, iter_calc, nDCG

Rankings = Mapping[str, Sequence[str]]
Judgements = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class RankingScores:
    """Of each question its `recall` at k, `ndcg10` and `mrr` (reciprocal rank within 10); and the means of these."""

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
        """One measure in the order of the questions, so that two searches can be compared in pairs."""
        return [scores[name] for scores in self.per_question.values()]

    def _mean(self, name: str) -> float:
        values = self.values(name)
        return sum(values) / len(values)


def score_rankings(rankings: Rankings, relevant: Judgements, k: int) -> RankingScores:
    """Score `rankings` (question -> documents, best first) by `relevant` (question -> {document: grade, 0 is not}).

    nDCG takes the grade itself as the gain, as trec_eval does. An empty ranking scores 0. Raises ValueError where there
    is no question, where a question has no relevant document, and where a ranking holds a document twice.
    """
    if not rankings:
        raise ValueError("there are no questions to judge")
    for question, ranking in rankings.items():
        _check(question, ranking, relevant.get(question, {}))
    measures: dict[Measure, str] = {R @ k: "recall", nDCG @ 10: "ndcg10", RR @ 10: "mrr"}
    judged = {question: dict(relevant[question]) for question in rankings}
    scores = {question: dict.fromkeys(measures.values(), 0.0) for question in rankings}
    run = {question: _scored(ranking) for question, ranking in rankings.items()}
    for one in iter_calc(list(measures), judged, run):
        scores[one.query_id][measures[one.measure]] = float(one.value)
    return RankingScores(scores)


def unique_documents(documents: Iterable[str]) -> list[str]:
    """The documents of a ranking of passages: a document has the rank of its first passage."""
    return list(dict.fromkeys(documents))


def _check(question: str, ranking: Sequence[str], grades: Mapping[str, int]) -> None:
    if not any(grade > 0 for grade in grades.values()):
        raise ValueError(f"question {question!r} has no relevant document: nothing can be found for it")
    if len(set(ranking)) != len(ranking):
        raise ValueError(f"the ranking of question {question!r} holds a document twice: take each once")


def _scored(ranking: Sequence[str]) -> dict[str, float]:
    """trec_eval sorts by score, so the rank is given as one."""
    return {document: float(len(ranking) - at) for at, document in enumerate(ranking)}
