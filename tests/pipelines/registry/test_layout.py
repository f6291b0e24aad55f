"""Tests of the MLflow layout: descriptions, saved views and chart metrics."""

from __future__ import annotations

import json

import pytest

from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.layout import (
    CYCLES,
    METRICS_BY_CYCLE,
    cycle_chart_metrics,
    experiment_tags,
    release_description,
)
from tests.factories import release

# The longest value of an experiment tag that MLflow's store accepts, in characters.
LONGEST_TAG = 5000


def cycle(**fields: object) -> Cycle:
    defaults = {"name": "cycle-0001", "run": "r", "at": "", "action": "REFRESH", "outcome": "released", "reason": ""}
    return Cycle.model_validate(defaults | fields)


@pytest.mark.parametrize("view", [CYCLES, METRICS_BY_CYCLE])
def test_a_view_has_the_form_in_which_mlflow_saves_it(view: str) -> None:
    saved = json.loads(experiment_tags("1", "ragtide")[f"mlflow.sharedViewState.{view}"])
    assert {"name": str, "createdAt": int, "state": str} == {
        key: type(saved[key]) for key in ("name", "createdAt", "state")
    }
    assert json.loads(saved["state"])["searchFilter"].startswith("tags.`ragtide.kind` = ")


def test_every_tag_fits_into_mlflows_store() -> None:
    assert max(len(value) for value in experiment_tags("1" * 20, "m" * 200).values()) < LONGEST_TAG


def test_the_description_links_to_the_saved_views() -> None:
    tags = experiment_tags("7", "support")
    for view in (CYCLES, METRICS_BY_CYCLE):
        assert f"#/experiments/7/runs?viewStateShareKey={view}" in tags["mlflow.note.content"]
    assert "#/models/support" in tags["mlflow.note.content"]


def test_a_released_candidate_is_charted_with_its_own_score() -> None:
    released = cycle(release="2", score_before=0.5, score_after=0.9, work={"embedded_chunks": 12.0}, seconds=30.0)
    charted = cycle_chart_metrics(released)
    assert charted["by_cycle/live_score"] == 0.9
    assert charted["by_cycle/embedded_chunks"] == 12.0
    assert charted["by_cycle/cycle_seconds"] == 30.0


def test_a_rejected_candidate_is_charted_with_the_score_of_the_live_release() -> None:
    assert cycle_chart_metrics(cycle(score_before=0.5, score_after=0.4))["by_cycle/live_score"] == 0.5


def test_a_cycle_without_candidate_is_charted_with_the_score_of_its_evidence() -> None:
    charted = cycle_chart_metrics(cycle(signals={"score_retrieved": 0.7, "index_gap": 0.1}))
    assert (charted["by_cycle/live_score"], charted["by_cycle/index_gap"]) == (0.7, 0.1)


def test_an_unmeasured_value_has_no_point() -> None:
    assert set(cycle_chart_metrics(cycle())) == {"by_cycle/embedded_chunks", "by_cycle/cycle_seconds"}


def test_the_description_of_a_release_links_to_its_decision_and_verdict() -> None:
    made = release(3)
    text = release_description(made, "7", "abc")
    for where in ("artifacts/decision.html", "artifacts/verdict-refresh.html"):
        assert f"(#/experiments/7/runs/abc/{where})" in text
    for fact in (made.snapshot.id, made.snapshot.kb_id, made.index_tag, "`ragtide rollback --to 3`"):
        assert fact in text
