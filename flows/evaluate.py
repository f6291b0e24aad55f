"""How well does the live release answer now? The golden questions of now, asked apart from any decision."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger

from flows.progress import bars
from flows.report import show
from flows.runs import named
from flows.tasks import step
from pipelines.publish import evaluation
from pipelines.publish.project import Project
from pipelines.records import Release, Scorecard


@flow(name="evaluate", flow_run_name=named("evaluate"), persist_result=False)
def evaluate(project: str = ".") -> Scorecard | None:
    """Score the live release and log it as an MLflow run with a row a question; None where nothing is live yet."""
    opened = Project.open(Path(project), bars)
    release = opened.registry.champion()
    if release is None:
        get_run_logger().info("nothing is live yet: there is nothing to score")
        return None
    return score_live(opened, release)


@step("score-live")
def score_live(project: Project, release: Release) -> Scorecard:
    """The scores in MLflow and on Prefect's page."""
    done = evaluation.evaluate(project, release)
    show("evaluation", done.markdown, f"release {release.id}, MLflow {done.address}")
    return done.scorecard
