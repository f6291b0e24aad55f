"""How well does a release answer the questions of now? As a run of its own in MLflow, and a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.observe.snapshot import observe
from pipelines.publish.answers import Row, answers_table, rows_of
from pipelines.publish.markdown import SHOWN, table
from pipelines.publish.project import Project
from pipelines.publish.report import retrieval_metrics
from pipelines.records import Release, Scorecard


@dataclass(frozen=True)
class Evaluation:
    """The scores of one release, as a page, and where MLflow shows them with a row a question."""

    scorecard: Scorecard
    markdown: str
    address: str


def evaluate(project: Project, release: Release) -> Evaluation:
    """Score a release on the questions and documents of now; where it is stale, they show it.

    It needs no lease: it reads what every reader reads, and writes one MLflow run once all is known. Raises
    RefusalError where the data or the golden questions cannot be used.
    """
    snapshot = observe(project.workspace)
    examiner = project.examiner(project.corpus(snapshot))
    scorecard = examiner.scorecard(project.subject(release))
    rows = rows_of(scorecard, examiner.golden.questions)
    with project.registry.evaluation(release) as log:
        log.tags({"data_rev": snapshot.id})
        log.datasets(snapshot)
        log.metrics(scorecard_metrics(scorecard))
        log.table("answers.json", answers_table(rows))
        log.questions(rows)
        log.record("scorecard.json", scorecard)
    return Evaluation(scorecard, scorecard_markdown(scorecard, rows), project.registry.address(log))


def scorecard_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """The three measures, and what each way to search finds."""
    measures = {
        "answer_score": scorecard.answer_score.value,
        "retrieval_recall": scorecard.retrieval_recall.value,
        "malformed_share": scorecard.malformed_share.value,
    }
    return measures | {"questions": float(len(scorecard.graded))} | retrieval_metrics(scorecard)


def scorecard_markdown(scorecard: Scorecard, rows: Sequence[Row]) -> str:
    """The measures with their intervals, and what was answered worst; `rows` has it first."""
    measures = [
        ("answer score", str(scorecard.answer_score)),
        ("retrieval recall", str(scorecard.retrieval_recall)),
        ("malformed share", str(scorecard.malformed_share)),
    ]
    wrong = [row for row in rows if row.answered.score < 1]
    shown = [(row.question.question, row.expected, row.answered.answer, row.why) for row in wrong[:SHOWN]]
    answered = f"{len(rows) - len(wrong)} of {len(rows)} questions are answered in full."
    worst = ["## Answered worst", table(("question", "expected", "answer", "why"), shown)] if shown else []
    return "\n\n".join(["# Evaluation", table(("measure", "value"), measures), answered, *worst])
