"""Records of evaluation: golden questions, graded answers, scorecards and the gate's verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evidence import Measure

ScorerName = Literal["contains", "exact", "token_f1", "json_f1", "command", "judge"]


class GoldenQuestion(Record):
    """A question with its accepted answers and the documents that state them.

    `scorer` grades an answer against the accepted ones (evaluation/scoring.py); where `format` is given, a regular
    expression, the whole answer must match it too. `passage` is a sentence of a document that supports the
    answer, where the answer itself does not stand there.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    docs: tuple[str, ...]
    format: str | None = None
    scorer: ScorerName = "contains"
    passage: str | None = None


class GradedAnswer(Record):
    """One answered question with its score (0 to 1).

    `gold_retrieved` says whether a gold passage was retrieved; None where that was not measured. `sources` are the
    documents of the passages in the context.
    """

    question: str
    answer: str
    score: float
    well_formed: bool
    gold_retrieved: bool | None = None
    sources: tuple[str, ...] = ()


class RetrievalMetrics(Record):
    """How well one search mode finds the documents of `n` golden questions: recall at `k`, nDCG@10 and MRR@10."""

    k: int
    recall: float
    ndcg10: float
    mrr10: float
    n: int


class Scorecard(Record):
    """The scores of an index and a model on one set of questions; comparable only on the same questions.

    `questions` is the digest of the set. `retrieval` has the metrics of each search mode ("hybrid", "vector", "text");
    it is empty without an index, and where no question names a document.
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
    """The scorecards of the live release and of a candidate on one regression suite (evaluation/regression.py)."""

    name: str
    before: Scorecard
    after: Scorecard


class Check(Record):
    """One check of the gate; `detail` says with its numbers why it passed or failed."""

    name: str
    passed: bool
    detail: str


class Verdict(Record):
    """The gate's judgement of a candidate, without which there is no release: accepted or rejected, and every check.

    `difference` is candidate minus live, question by question. `suites` are the regression suites; there are none where
    the candidate has the live release's model, or nothing is live. `behind` are the changed documents behind lost
    questions (document -> question ids), `changed_lines` those lost questions whose golden line changed too; `excused`
    are the questions that a person gave up with an approval.
    `alternatives` are other models on the candidate's index: their answer score minus the candidate's, and `beaten_by`
    those of them that are better.
    """

    accepted: bool
    checks: tuple[Check, ...]
    before: Scorecard
    after: Scorecard
    difference: Measure
    suites: tuple[SuiteScore, ...] = ()
    behind: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    changed_lines: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()
    alternatives: dict[str, Measure] = Field(default_factory=dict)
    beaten_by: tuple[str, ...] = ()

    @property
    def best_alternative(self) -> str | None:
        """The best of the models that are better than the candidate's; None where there is none."""
        return max(self.beaten_by, key=lambda name: self.alternatives[name].value or 0.0, default=None)
