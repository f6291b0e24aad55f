"""Evaluation report of one release: MLflow metrics and a Markdown page from a scorecard."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.reports.markdown import SHOWN, markdown_table
from ragtide.pipelines.reports.signals import agree, count_of
from ragtide.pipelines.reports.verdict import MEASURE_NAMES, SCALE, retrieval_metrics, scorecard_measures


def scorecard_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """Return the scorecard's measures and the retrieval metrics of each search mode, as MLflow metrics."""
    measures = {field: measured.value for field, measured in scorecard_measures(scorecard).items()}
    return measures | {"questions": float(len(scorecard.graded))} | retrieval_metrics(scorecard)


def scorecard_markdown(scorecard: Scorecard, rows: Sequence[AnswerRow]) -> str:
    """Return a page with the measures, their intervals, and the worst answers; `rows` starts with the worst."""
    measures = [(MEASURE_NAMES[field], str(measured)) for field, measured in scorecard_measures(scorecard).items()]
    wrong = [row for row in rows if row.graded.score < 1]
    shown = [(row.question.question, row.expected, row.graded.answer, row.explanation) for row in wrong[:SHOWN]]
    correct = len(rows) - len(wrong)
    answered = f"{correct} of {count_of(len(rows), 'question')} {agree(correct, 'was', 'were')} answered correctly."
    head = ("question", "expected answer", "answer", "explanation")
    worst = ["## Worst answers", markdown_table(head, shown)] if shown else []
    return "\n\n".join(["# Evaluation", SCALE, markdown_table(("measure", "value"), measures), answered, *worst])
