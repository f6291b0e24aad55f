"""How well does the live release answer now? The golden questions of now, asked apart from any decision."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger

from flows.progress import bars
from flows.report import show
from flows.runs import named
from flows.tasks import step
from pipelines.observe.snapshot import observe
from pipelines.publish.answers import answers_table, rows_of
from pipelines.publish.evaluation import scorecard_markdown, scorecard_metrics
from pipelines.publish.project import Project
from pipelines.records import Release, Scorecard


@flow(name="evaluate", flow_run_name=named("evaluate"), persist_result=False)
def evaluate(project: str = ".") -> Scorecard | None:
    """Score the live release and log it as an MLflow run with a row a question; None where nothing is live yet.

    It needs no lease: it reads what every reader reads, and writes one MLflow run.
    """
    opened = Project.open(Path(project), bars)
    release = opened.registry.champion()
    if release is None:
        get_run_logger().info("nothing is live yet: there is nothing to score")
        return None
    return score_live(opened, release)


@step("score-live")
def score_live(project: Project, release: Release) -> Scorecard:
    """The scores of a release on the questions and documents of now; where it is stale, they show it."""
    with project.registry.evaluation(release) as log:
        snapshot = observe(project.workspace)
        examiner = project.examiner(project.corpus(snapshot))
        scorecard = examiner.scorecard(project.subject(release))
        log.tags({"data_rev": snapshot.id})
        log.datasets(snapshot)
        log.metrics(scorecard_metrics(scorecard))
        rows = rows_of(scorecard, examiner.golden.questions)
        log.table("answers.json", answers_table(rows))
        log.questions(rows)
        log.record("scorecard.json", scorecard)
        wordings = {one.id: one.question for one in examiner.golden.questions}
        markdown = scorecard_markdown(scorecard, wordings)
        show("evaluation", markdown, f"release {release.id}, MLflow {project.registry.address(log)}")
        return scorecard
