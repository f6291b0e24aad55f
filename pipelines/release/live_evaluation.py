"""How well does a release answer the questions of now? As a run of its own in MLflow, and a page for people."""

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
    """The scores of one release, as a page, and where MLflow shows them with a row a question."""

    scorecard: Scorecard
    markdown: str
    address: str


def evaluate_release(project: Project, release: Release) -> LiveEvaluation:
    """Score a release on the questions and documents of now; where it is stale, they show it.

    It needs no lease: it reads what every reader reads, and writes one MLflow run once all is known. Raises
    RefusalError where the data or the golden questions cannot be used.
    """
    snapshot = take_snapshot(project.workspace)
    examiner = project.evaluator(project.corpus(snapshot).knowledge)
    scorecard = examiner.scorecard(project.system_under_test(release))
    rows = answer_rows(scorecard, examiner.golden.questions)
    with project.registry.evaluation(release) as log:
        log.tags({"data_rev": snapshot.id})
        log.datasets(snapshot)
        log.metrics(scorecard_metrics(scorecard))
        log.table("answers.json", answers_table(rows))
        log.questions(rows)
        log.record("scorecard.json", scorecard)
    return LiveEvaluation(scorecard, scorecard_markdown(scorecard, rows), project.registry.address(log))
