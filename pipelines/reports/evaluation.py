"""Evaluation report of one release: MLflow metrics and a Markdown page from a scorecard."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.reports.markdown import SHOWN, markdown_table
from ragtide.pipelines.reports.verdict import SCALE, retrieval_metrics


def scorecard_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """Return the scorecard's measures and the retrieval metrics of each search mode, as MLflow metrics."""
    measures = {
        "answer_score": scorecard.answer_score.value,
        "retrieval_recall": scorecard.retrieval_recall.value,
        "malformed_share": scorecard.malformed_share.value,
    }
    return measures | {"questions": float(len(scorecard.graded))} | retrieval_metrics(scorecard)


def scorecard_markdown(scorecard: Scorecard, rows: Sequence[AnswerRow]) -> str:
    """Return a page with the measures, their intervals, and the worst answers; `rows` starts with the worst."""
    measures = [
        ("answer score", str(scorecard.answer_score)),
        ("retrieval recall", str(scorecard.retrieval_recall)),
        ("share of malformed answers", str(scorecard.malformed_share)),
    ]
    wrong = [row for row in rows if row.graded.score < 1]
    shown = [(row.question.question, row.expected, row.graded.answer, row.explanation) for row in wrong[:SHOWN]]
    correct = f"{len(rows) - len(wrong)} of {len(rows)} questions were answered correctly."
    head = ("question", "expected answer", "answer", "explanation")
    worst = ["## Worst answers", markdown_table(head, shown)] if shown else []
    return "\n\n".join(["# Evaluation", SCALE, markdown_table(("measure", "value"), measures), correct, *worst])
