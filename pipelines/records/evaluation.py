"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evidence import Measure

# --- prove ---------------------------------------------------------------------------------------------------------


ScorerName = Literal["contains", "exact", "token_f1", "json_f1", "command", "judge"]


class GoldenQuestion(Record):
    """A golden question. `scorer` says how near an answer is to one of `answers` (evaluation/scoring.py).

    It has to match `format` besides, where one is given.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    docs: tuple[str, ...]
    format: str | None = None
    scorer: ScorerName = "contains"


class GradedAnswer(Record):
    """One answered question; `hit` says whether the chunk that holds the answer was among the retrieved."""

    question: str
    answer: str
    score: float
    well_formed: bool
    gold_retrieved: bool | None = None
    sources: tuple[str, ...] = ()


class RetrievalMetrics(Record):
    """How well one way to search finds the golden questions' documents: recall at `k`, nDCG@10, MRR@10, over `n`."""

    k: int
    recall: float
    ndcg10: float
    mrr10: float
    n: int


class Scorecard(Record):
    """How an index and a model answer one set of questions; comparable only on the same questions.

    `retrieval` is by way of searching: "hybrid", "vector", "text". Empty without an index, or without named documents.
    """

    snapshot: str
    questions: str
    index_version: int | None
    adapter: str | None
    answer_score: Measure
    retrieval_recall: Measure
    malformed_share: Measure
    retrieval: dict[str, RetrievalMetrics] = Field(default_factory=dict)
    graded: tuple[GradedAnswer, ...] = ()


class SuiteScore(Record):
    """How the live release and a candidate answer the questions of one skill (evaluation/regression.py)."""

    name: str
    before: Scorecard
    after: Scorecard


class Check(Record):
    """One demand of the gate, with its numbers."""

    name: str
    passed: bool
    detail: str


class Verdict(Record):
    """Accepted or not, and each check with its numbers. No release without one.

    `skills` are those that were asked for: none where the model is that of the live release, or nothing is live.
    """

    accepted: bool
    checks: tuple[Check, ...]
    before: Scorecard
    after: Scorecard
    difference: Measure
    skills: tuple[SuiteScore, ...] = ()
