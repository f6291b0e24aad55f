"""Does MLflow's page say what a reviewer finds there, and where?"""

from __future__ import annotations

import json

import pytest

from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.layout import (
    CYCLES,
    OVER_TIME,
    cycle_chart_metrics,
    experiment_tags,
    release_description,
)
from tests.factories import release

# What MLflow's store takes of an experiment's tag.
LONGEST = 5000


def cycle(**fields: object) -> Cycle:
    usual = {"name": "cycle-0001", "run": "r", "at": "", "decision": "REFRESH", "outcome": "", "reason": ""}
    return Cycle.model_validate(usual | fields)


@pytest.mark.parametrize("view", [CYCLES, OVER_TIME])
def test_a_view_is_as_mlflow_saves_one(view: str) -> None:
    saved = json.loads(experiment_tags("1", "ragtide")[f"mlflow.sharedViewState.{view}"])
    assert {"name": str, "createdAt": int, "state": str} == {
        key: type(saved[key]) for key in ("name", "createdAt", "state")
    }
    assert json.loads(saved["state"])["searchFilter"].startswith("tags.`ragtide.kind` = ")


def test_every_tag_fits_into_mlflows_store() -> None:
    assert max(len(value) for value in experiment_tags("1" * 20, "m" * 200).values()) < LONGEST


def test_the_views_that_the_text_names_are_there() -> None:
    tags = experiment_tags("7", "support")
    for view in (CYCLES, OVER_TIME):
        assert f"#/experiments/7/runs?viewStateShareKey={view}" in tags["mlflow.note.content"]
    assert "#/models/support" in tags["mlflow.note.content"]


def test_what_went_live_is_charted_with_its_own_score() -> None:
    released = cycle(release="2", score_before=0.5, score_after=0.9, work={"embedded_chunks": 12.0}, seconds=30.0)
    charted = cycle_chart_metrics(released)
    assert charted["over the cycles/live score"] == 0.9
    assert charted["over the cycles/embedded chunks"] == 12.0
    assert charted["over the cycles/turn seconds"] == 30.0


def test_what_was_refused_is_charted_with_the_score_of_what_stayed_live() -> None:
    assert cycle_chart_metrics(cycle(score_before=0.5, score_after=0.4))["over the cycles/live score"] == 0.5


def test_a_turn_that_did_nothing_is_charted_with_what_the_evidence_says() -> None:
    charted = cycle_chart_metrics(cycle(signals={"score_retrieved": 0.7, "index_gap": 0.1}))
    assert (charted["over the cycles/live score"], charted["over the cycles/index gap"]) == (0.7, 0.1)


def test_what_was_not_measured_is_no_point_of_a_chart() -> None:
    assert set(cycle_chart_metrics(cycle())) == {"over the cycles/embedded chunks", "over the cycles/turn seconds"}


def test_a_releases_page_leads_to_its_decision_its_verdict_and_its_data() -> None:
    made = release(3)
    text = release_description(made, "7", "abc")
    for where in ("artifacts/decision.html", "artifacts/verdict.html"):
        assert f"(#/experiments/7/runs/abc/{where})" in text
    for told in (made.snapshot.id, made.snapshot.kb_id, made.index_tag, "`ragtide rollback --to 3`"):
        assert told in text
