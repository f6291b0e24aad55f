"""Evaluation of a release on the current questions and documents: an MLflow run of its own, and a page."""

from __future__ import annotations

from dataclasses import dataclass

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.answers import answer_rows, answers_table
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.reports.evaluation import scorecard_markdown, scorecard_metrics


@dataclass(frozen=True)
class LiveEvaluation:
    """The scores of one release, the same as Markdown, and the URL of the MLflow run with one row per question."""

    scorecard: Scorecard
    markdown: str
    address: str


def evaluate_release(project: Project, release: Release) -> LiveEvaluation:
    """Score a release on the current questions and documents; a stale release scores low on them.

    Needs no lease: it reads what every reader reads, and writes one MLflow run once all scores are known. Raises
    UserError where the data or the golden questions are unusable.
    """
    snapshot = take_snapshot(project.workspace)
    evaluator = project.evaluator(project.corpus(snapshot).knowledge)
    scorecard = evaluator.scorecard(project.system_under_test(release))
    rows = answer_rows(scorecard, evaluator.golden.questions)
    with project.registry.evaluation(release) as log:
        log.tags({"data_rev": snapshot.id})
        log.datasets(snapshot)
        log.metrics(scorecard_metrics(scorecard))
        log.table("answers.json", answers_table(rows))
        log.traces(rows)
        log.record("scorecard.json", scorecard)
    return LiveEvaluation(scorecard, scorecard_markdown(scorecard, rows), project.registry.address(log))
