"""Does a replay count what really came of a decision, and only where another one was made what was expected of that?"""

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
from ragtide.pipelines.policy.decide import decide
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
class Told:
    """A registry that knows what was recorded and nothing else."""

    cycles: list[Cycle]

    def history(self) -> list[Cycle]:
        return self.cycles


class Record:
    """A project with recorded turns, and the plans that they went by."""

    def __init__(self, root: Path) -> None:
        self._told = Told([])
        models = Models(CountingEmbedder(), CountingReader(), CountingTrainer())
        self.project = Project(workspace(root), models, cast("Registry", self._told), no_progress)

    def planned(self, gathered: Evidence | None = None) -> str:
        """Keep a plan of the default policy; its digest."""
        seen = gathered or evidence()
        return save_plan(self.project, Plan(evidence=seen, decision=decide(seen, DEFAULT), params="p1"))

    def turn(self, decision: str = "REFRESH", **fields: Any) -> None:
        number = len(self._told.cycles) + 1
        at = f"2030-01-0{number}T00:00:00+00:00"
        usual: dict[str, Any] = {"run": "", "at": at, "outcome": "released", "reason": "", "plan": ""}
        self._told.cycles.append(
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


def test_where_the_same_is_decided_what_really_came_of_it_counts(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    [one] = record.replay(DEFAULT)
    assert (str(one.was), one.would, one.same) == ("REFRESH", Action.REFRESH, True)
    assert (one.was_seconds, one.would_seconds) == (42.0, 42.0)
    assert (one.was_points, one.would_points) == (25.0, 25.0)


def test_where_another_is_decided_its_forecast_and_its_expected_gain_count(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    [one] = record.replay(ALWAYS)
    assert (str(one.was), one.would, one.same) == ("REFRESH", Action.REFRESH.with_retrain(), False)
    assert (one.was_seconds, one.would_seconds) == (42.0, BOTH_SECONDS)
    assert (one.was_points, one.would_points) == (25.0, REFRESH_POINTS)


@pytest.mark.parametrize("waits", [False, True], ids=["nothing", "hold"])
def test_who_would_build_nothing_spends_and_gains_nothing(waits: bool, record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    params = DEFAULT.model_copy(update={"approve_above_seconds": 1.0}) if waits else NEVER
    [one] = record.replay(params)
    assert one.would == (Action.HOLD if waits else Action.NOTHING)
    assert (one.would_seconds, one.would_points) == (0.0, 0.0)
    assert (one.was_seconds, one.was_points) == (42.0, 25.0)


def test_who_would_have_done_something_where_nothing_was_done_is_told_what_to_expect(record: Record) -> None:
    record.turn("NOTHING", plan=record.planned(), outcome="nothing")
    [one] = record.replay(DEFAULT)
    assert (one.was_seconds, one.was_points) == (0.0, 0.0)
    assert (one.would, one.would_seconds, one.would_points) == (Action.REFRESH, REFRESH_SECONDS, REFRESH_POINTS)


def test_what_was_refused_took_its_time_and_brought_nothing(record: Record) -> None:
    record.turn(plan=record.planned(), outcome="rejected", **(SCORED | {"release": None}))
    [one] = record.replay(DEFAULT)
    assert (one.would_seconds, one.would_points) == (42.0, 0.0)


def test_a_first_release_has_no_score_before_it_and_so_no_gain(record: Record) -> None:
    record.turn(plan=record.planned(), **(SCORED | {"score_before": None}))
    assert record.replay(DEFAULT)[0].was_points == 0.0


def test_a_release_that_made_it_worse_counts_as_a_loss(record: Record) -> None:
    record.turn(plan=record.planned(), **(SCORED | {"score_after": 0.25}))
    assert record.replay(DEFAULT)[0].was_points == -25.0


def test_the_reason_given_is_that_of_the_action(record: Record) -> None:
    gathered = evidence(delta=UNMOVED, score_gold=measure(0.35), model_gap=measure(0.6))
    record.turn("NOTHING", plan=record.planned(gathered))
    [one] = record.replay(DEFAULT)
    assert one.would == Action.RETRAIN
    assert one.because.startswith("The decision is RETRAIN. RETRAIN is called for: with the right passage")


def test_turns_are_given_oldest_first_by_the_evidence_of_each(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    record.turn(plan=record.planned(evidence(refresh_gain=measure(0.0), snapshot="s2", delta=UNMOVED)), **SCORED)
    assert [(one.cycle, one.at[:10], one.would) for one in record.replay(DEFAULT)] == [
        ("cycle-0001", "2030-01-01", Action.REFRESH),
        ("cycle-0002", "2030-01-02", Action.NOTHING),
    ]


# --- what cannot be replayed ---------------------------------------------------------------------------------------


def test_turns_without_a_plan_that_is_kept_are_left_out(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    record.turn("ROLLBACK", plan=record.planned())
    record.turn("undecided", outcome="failed")
    record.turn("REFRESH", plan="0123456789ab")
    record.turn("REFRESH")
    assert [one.cycle for one in record.replay(DEFAULT)] == ["cycle-0001"]


@pytest.mark.parametrize("turns", [(), ("ROLLBACK", "undecided", "REFRESH")], ids=["no turn", "no plan"])
def test_without_any_plan_it_is_said_what_to_do(turns: tuple[str, ...], record: Record) -> None:
    for decision in turns:
        record.turn(decision)
    with pytest.raises(UserError, match="no recorded cycle has a plan to replay"):
        record.replay(DEFAULT)


def test_a_plan_that_was_changed_by_hand_is_not_replayed(record: Record) -> None:
    digest = record.planned()
    file = record.project.workspace.plan_file(digest)
    file.write_text(file.read_text(encoding="utf-8").replace('"examples": 100', '"examples": 9'), encoding="utf-8")
    record.turn(plan=digest)
    with pytest.raises(UserError, match="was changed by hand"):
        record.replay(DEFAULT)


def test_an_unknown_policy_is_refused_by_name(record: Record) -> None:
    record.turn(plan=record.planned())
    with pytest.raises(UserError, match=r"policy\.name = 'nonsense': known are evidence, always"):
        record.replay(PolicyParams(name="nonsense"))


def test_a_replay_writes_nothing(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    root = record.project.workspace.root
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    record.replay(ALWAYS)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


# --- what it comes to ----------------------------------------------------------------------------------------------


def test_the_total_is_the_sum_over_all_turns(record: Record) -> None:
    record.turn(plan=record.planned(), **SCORED)
    record.turn("REFRESH+RETRAIN", plan=record.planned(), **(SCORED | {"signals": {ACTION_SECONDS: 400.0}}))
    record.turn("NOTHING", plan=record.planned(evidence(snapshot="s2")))
    assert replay_total("evidence", record.replay(DEFAULT)) == ReplayTotal(
        "evidence", seconds=42.0 + 2 * REFRESH_SECONDS, points=25.0 + 2 * REFRESH_POINTS, retrains=0, others=2
    )
    assert replay_total("always", record.replay(ALWAYS)) == ReplayTotal(
        "always", seconds=400.0 + 2 * BOTH_SECONDS, points=25.0 + 2 * REFRESH_POINTS, retrains=3, others=2
    )
    assert replay_total("never", record.replay(NEVER)) == ReplayTotal(
        "never", seconds=0.0, points=0.0, retrains=0, others=2
    )


def test_no_turn_comes_to_nothing() -> None:
    assert replay_total("never", []) == ReplayTotal("never", seconds=0.0, points=0.0, retrains=0, others=0)
