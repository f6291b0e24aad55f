"""How is one release's score on the questions of now written down? As metrics for MLflow and a page for people."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.publish.markdown import SHOWN, table
from pipelines.publish.report import retrieval_metrics
from pipelines.records import Scorecard


def scorecard_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """The three measures, and what each way to search finds."""
    measures = {
        "answer_score": scorecard.answer_score.value,
        "retrieval_recall": scorecard.retrieval_recall.value,
        "malformed_share": scorecard.malformed_share.value,
    }
    return measures | {"questions": float(len(scorecard.graded))} | retrieval_metrics(scorecard)


def scorecard_markdown(scorecard: Scorecard, wordings: Mapping[str, str]) -> str:
    """The measures with their intervals, and the questions (id -> wording) that were answered worst."""
    measures = [
        ("answer score", str(scorecard.answer_score)),
        ("retrieval recall", str(scorecard.retrieval_recall)),
        ("malformed share", str(scorecard.malformed_share)),
    ]
    wrong = sorted((one for one in scorecard.graded if one.score < 1), key=lambda one: one.score)
    rows = [(wordings[one.question], one.answer, f"{one.score:.2g}") for one in wrong[:SHOWN]]
    answered = f"{len(scorecard.graded) - len(wrong)} of {len(scorecard.graded)} questions are answered in full."
    worst = ["## Answered worst", table(("question", "answer", "score"), rows)] if rows else []
    return "\n\n".join(["# Evaluation", table(("measure", "value"), measures), answered, *worst])
