"""Tests of the policy replay: measured results for the recorded decision, forecasts for another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import ACTION_SECONDS
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import save_plan
from ragtide.pipelines.planning.policy_replay import (
    ReplayedCycle,
    ReplayTotal,
    recorded_cycles,
    replay_policy,
    replay_total,
)
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.releases import Registry
from tests.factories import UNMOVED, evidence, measure, workspace
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

# The factory's evidence: a refresh is forecast to take 10 + 20 s and to win 8 points, a retrain 300 s more and nothing.
REFRESH_SECONDS, BOTH_SECONDS, REFRESH_POINTS = 30.0, 330.0, 8.0
DEFAULT, ALWAYS, NEVER = (PolicyParams(name=name) for name in ("evidence", "always", "never"))
SCORED: dict[str, Any] = {"release": "2", "score_before": 0.5, "score_after": 0.75, "signals": {ACTION_SECONDS: 42.0}}


@dataclass
class FakeRegistry:
    """A registry with a history of cycles only."""

    cycles: list[Cycle]

    def history(self) -> list[Cycle]:
        return self.cycles


class Record:
    """A project with recorded cycles and their plans."""

    def __init__(self, root: Path) -> None:
        self._registry = FakeRegistry([])
        models = Models(CountingEmbedder(), CountingReader(), CountingTrainer())
        self.project = Project(workspace(root), models, cast("Registry", self._registry), no_progress)

    def planned(self, gathered: Evidence | None = None) -> str:
        """Save a plan of the default policy and return its digest."""
        gathered = gathered or evidence()
        return save_plan(self.project, Plan(evidence=gathered, decision=make_decision(gathered, DEFAULT), params="p1"))

    def add_cycle(self, decision: str = "REFRESH", **fields: Any) -> None:
        number = len(self._registry.cycles) + 1
        at = f"2030-01-0{number}T00:00:00+00:00"
        usual: dict[str, Any] = {"run": "", "at": at, "outcome": "released", "reason": "", "plan": ""}
        self._registry.cycles.append(
            Cycle(
                name=f"cycle-{number:04d}",
                action=None if decision in ("ROLLBACK", "undecided") else decision,
                **(usual | fields),
            )
        )

    def replay(self, params: PolicyParams) -> list[ReplayedCycle]:
        return replay_policy(recorded_cycles(self.project), params)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


def test_the_recorded_decision_counts_with_its_measured_result(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    [replayed] = record.replay(DEFAULT)
    assert (str(replayed.was), replayed.would, replayed.same) == ("REFRESH", Action.REFRESH, True)
    assert (replayed.was_seconds, replayed.would_seconds) == (42.0, 42.0)
    assert (replayed.was_points, replayed.would_points) == (25.0, 25.0)


def test_another_decision_counts_with_its_forecast_and_expected_gain(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    [replayed] = record.replay(ALWAYS)
    assert (str(replayed.was), replayed.would, replayed.same) == ("REFRESH", Action.REFRESH.with_retrain(), False)
    assert (replayed.was_seconds, replayed.would_seconds) == (42.0, BOTH_SECONDS)
    assert (replayed.was_points, replayed.would_points) == (25.0, REFRESH_POINTS)


@pytest.mark.parametrize("pending", [False, True], ids=["nothing", "hold"])
def test_a_decision_to_build_nothing_costs_and_gains_nothing(pending: bool, record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    params = DEFAULT.model_copy(update={"approve_above_seconds": 1.0}) if pending else NEVER
    [replayed] = record.replay(params)
    assert replayed.would == (Action.HOLD if pending else Action.NOTHING)
    assert (replayed.would_seconds, replayed.would_points) == (0.0, 0.0)
    assert (replayed.was_seconds, replayed.was_points) == (42.0, 25.0)


def test_an_action_in_place_of_nothing_counts_with_its_expectation(record: Record) -> None:
    record.add_cycle("NOTHING", plan=record.planned(), outcome="nothing")
    [replayed] = record.replay(DEFAULT)
    assert (replayed.was_seconds, replayed.was_points) == (0.0, 0.0)
    assert (replayed.would, replayed.would_seconds, replayed.would_points) == (
        Action.REFRESH,
        REFRESH_SECONDS,
        REFRESH_POINTS,
    )


def test_a_rejected_candidate_counts_with_its_cost_and_no_gain(record: Record) -> None:
    record.add_cycle(plan=record.planned(), outcome="rejected", **(SCORED | {"release": None}))
    [replayed] = record.replay(DEFAULT)
    assert (replayed.would_seconds, replayed.would_points) == (42.0, 0.0)


def test_a_first_release_has_no_gain(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **(SCORED | {"score_before": None}))
    assert record.replay(DEFAULT)[0].was_points == 0.0


def test_a_release_with_a_lower_score_counts_as_a_loss(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **(SCORED | {"score_after": 0.25}))
    assert record.replay(DEFAULT)[0].was_points == -25.0


def test_the_reason_given_is_that_of_the_action(record: Record) -> None:
    gathered = evidence(delta=UNMOVED, score_gold=measure(0.35), model_gap=measure(0.6))
    record.add_cycle("NOTHING", plan=record.planned(gathered))
    [replayed] = record.replay(DEFAULT)
    assert replayed.would == Action.RETRAIN
    assert "60 points" in replayed.why


def test_cycles_are_replayed_oldest_first_on_their_own_evidence(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    record.add_cycle(plan=record.planned(evidence(refresh_gain=measure(0.0), snapshot="s2", delta=UNMOVED)), **SCORED)
    assert [(replayed.cycle, replayed.at[:10], replayed.would) for replayed in record.replay(DEFAULT)] == [
        ("cycle-0001", "2030-01-01", Action.REFRESH),
        ("cycle-0002", "2030-01-02", Action.NOTHING),
    ]


# --- cycles that cannot be replayed --------------------------------------------------------------------------------


def test_cycles_without_a_saved_plan_are_not_replayed(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    record.add_cycle("ROLLBACK", plan=record.planned())
    record.add_cycle("undecided", outcome="failed")
    record.add_cycle("REFRESH", plan="0123456789ab")
    record.add_cycle("REFRESH")
    assert [replayed.cycle for replayed in record.replay(DEFAULT)] == ["cycle-0001"]


@pytest.mark.parametrize("decisions", [(), ("ROLLBACK", "undecided", "REFRESH")], ids=["no cycle", "no plan"])
def test_a_history_without_plans_is_an_error(decisions: tuple[str, ...], record: Record) -> None:
    for decision in decisions:
        record.add_cycle(decision)
    with pytest.raises(UserError, match="no recorded cycle has a plan to replay"):
        record.replay(DEFAULT)


def test_a_plan_that_was_changed_by_hand_is_not_replayed(record: Record) -> None:
    digest = record.planned()
    file = record.project.workspace.plan_file(digest)
    file.write_text(file.read_text(encoding="utf-8").replace('"examples": 100', '"examples": 9'), encoding="utf-8")
    record.add_cycle(plan=digest)
    with pytest.raises(UserError, match="was changed by hand"):
        record.replay(DEFAULT)


def test_an_unknown_policy_is_an_error_that_names_it(record: Record) -> None:
    record.add_cycle(plan=record.planned())
    with pytest.raises(UserError, match=r"policy\.name = 'nonsense': known are evidence, always"):
        record.replay(PolicyParams(name="nonsense"))


def test_a_replay_writes_nothing(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    root = record.project.workspace.root
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    record.replay(ALWAYS)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


# --- totals --------------------------------------------------------------------------------------------------------


def test_the_total_is_the_sum_over_all_cycles(record: Record) -> None:
    record.add_cycle(plan=record.planned(), **SCORED)
    record.add_cycle("REFRESH+RETRAIN", plan=record.planned(), **(SCORED | {"signals": {ACTION_SECONDS: 400.0}}))
    record.add_cycle("NOTHING", plan=record.planned(evidence(snapshot="s2")))
    assert replay_total("evidence", record.replay(DEFAULT)) == ReplayTotal(
        "evidence", seconds=42.0 + 2 * REFRESH_SECONDS, points=25.0 + 2 * REFRESH_POINTS, retrains=0, others=2
    )
    assert replay_total("always", record.replay(ALWAYS)) == ReplayTotal(
        "always", seconds=400.0 + 2 * BOTH_SECONDS, points=25.0 + 2 * REFRESH_POINTS, retrains=3, others=2
    )
    assert replay_total("never", record.replay(NEVER)) == ReplayTotal(
        "never", seconds=0.0, points=0.0, retrains=0, others=2
    )


def test_the_total_of_no_cycles_is_zero() -> None:
    assert replay_total("never", []) == ReplayTotal("never", seconds=0.0, points=0.0, retrains=0, others=0)
