"""Tests of recorded cycles as past decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.history.history import (
    ACTION_SECONDS,
    CHANGED_SHARE,
    EXPECTED_POINTS,
    FILTERED_EXAMPLES,
    FORECAST_SECONDS,
    LIVE_SCORE,
    REMEMBERED,
    SHIFT,
    failed_since_decided,
    hours_since_retrain,
    last_decided_cycle,
    last_validated_cycle,
    past_decisions,
    rejected_before,
    retrained_snapshots,
    rolled_back_releases,
    spent_hours,
)
from ragtide.pipelines.records.action import ACTIONS, Action
from ragtide.pipelines.records.evidence import PastDecision
from ragtide.pipelines.records.release import Cycle, PartOutcome

NOW = datetime(2030, 1, 8, tzinfo=UTC)
NUMBERS = {
    EXPECTED_POINTS: 20.0,
    FORECAST_SECONDS: 330.0,
    ACTION_SECONDS: 300.0,
    LIVE_SCORE: 0.5,
    CHANGED_SHARE: 0.25,
    SHIFT: 0.1,
}


def cycle(number: int = 1, **fields: Any) -> Cycle:
    """A cycle that published the release of its number and gained ten points."""
    usual: dict[str, Any] = {
        "name": f"cycle-{number}",
        "run": "r",
        "at": NOW.isoformat(),
        "action": "REFRESH",
        "outcome": "released",
        "reason": "",
        "release": str(number),
        "score_before": 0.5,
        "score_after": 0.6,
        "signals": NUMBERS,
    }
    return Cycle(**(usual | fields))


def idle(number: int = 1, **fields: Any) -> Cycle:
    """A cycle that built nothing."""
    usual = {"action": "NOTHING", "outcome": "nothing", "release": None, "signals": {LIVE_SCORE: 0.5}}
    return cycle(number, **(usual | {"score_before": None, "score_after": None} | fields))


def rejected(number: int = 1) -> Cycle:
    return cycle(number, outcome="rejected", detail="answer score", release=None, score_after=0.4)


def rollback(undone: int, to: int, why: str = "wrong answers") -> Cycle:
    return idle(action=None, name="rollback", outcome="rolled_back", undone=str(undone), release=str(to), reason=why)


def days_ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


# --- past decisions ------------------------------------------------------------------------------------------------


def test_a_past_decision_has_its_forecast_and_its_result() -> None:
    assert past_decisions([cycle(3)]) == (
        PastDecision(
            cycle="cycle-3",
            action=Action.REFRESH,
            accepted=True,
            expected_points=20,
            recovered_points=10,
            forecast_seconds=330,
            seconds=300,
            score=0.5,
            changed_share=0.25,
            shift=0.1,
        ),
    )


def test_an_expectation_is_at_most_all_points_also_where_more_was_recorded() -> None:
    assert [past_decisions([cycle(signals={EXPECTED_POINTS: points})])[0].expected_points for points in (99, 111)] == [
        99,
        100,
    ]


def test_values_that_were_not_recorded_are_none_and_not_zero() -> None:
    [past] = past_decisions([cycle(signals={})])
    fields = past.model_dump(exclude={"record_version", "cycle", "action", "accepted", "rolled_back"})
    assert {name for name, value in fields.items() if value is not None} == {"recovered_points", "snapshot"}


def test_a_rejected_candidate_is_a_past_decision_with_its_loss() -> None:
    [past] = past_decisions([rejected()])
    assert (past.accepted, past.recovered_points) == (False, -10)


@pytest.mark.parametrize("decision", ["NOTHING", "HOLD"])
def test_a_cycle_that_built_nothing_is_a_past_decision(decision: str) -> None:
    [past] = past_decisions([idle(action=decision)])
    assert (str(past.action), past.accepted, past.recovered_points, past.score) == (decision, False, None, 0.5)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from([cycle, idle, rejected]), max_size=12))
def test_past_decisions_have_the_order_of_the_cycles(kinds: list[Any]) -> None:
    history = [make(number) for number, make in enumerate(kinds, start=1)]
    decisions = past_decisions(history)
    assert [(past.cycle, past.action) for past in decisions] == [(cycle.name, cycle.action) for cycle in history]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["REFRESH", "RETRAIN", "NOTHING", "HOLD"]), max_size=6), st.data())
def test_cycles_that_did_not_finish_do_not_change_the_past_decisions(decisions: list[str], data: st.DataObject) -> None:
    history = [cycle(number, action=decision) for number, decision in enumerate(decisions)]
    outcomes = data.draw(st.lists(st.sampled_from(["failed", "killed", "running"]), max_size=4))
    mixed = list(history)
    for outcome in outcomes:
        decision = data.draw(st.sampled_from(["REFRESH", "NOTHING", "HOLD", None]))
        broken = cycle(99, action=decision, outcome=outcome, release=None)
        mixed.insert(data.draw(st.integers(0, len(mixed))), broken)
    assert past_decisions(mixed) == past_decisions(history)


def test_a_manual_release_or_rollback_is_no_past_decision() -> None:
    assert past_decisions([cycle(action=None), rollback(2, to=1)]) == ()


def test_only_the_last_decisions_are_remembered() -> None:
    decisions = past_decisions([idle(number) for number in range(REMEMBERED + 5)])
    assert (len(decisions), decisions[0].cycle, decisions[-1].cycle) == (
        REMEMBERED,
        "cycle-5",
        f"cycle-{REMEMBERED + 4}",
    )


# --- rollbacks -----------------------------------------------------------------------------------------------------


def test_only_a_release_that_was_rolled_back_is_marked() -> None:
    history = [cycle(1), cycle(2), rejected(3), rollback(2, to=1)]
    assert [past.rolled_back for past in past_decisions(history)] == [False, True, False]
    assert rolled_back_releases(history) == {"2": "wrong answers"}


def test_rolling_forward_again_removes_the_mark() -> None:
    history = [cycle(1), cycle(2), rollback(2, to=1), rollback(1, to=2)]
    assert [past.rolled_back for past in past_decisions(history)] == [True, False]
    assert rolled_back_releases([*history, rollback(2, to=1, why="once more")]) == {"2": "once more"}


def test_a_rollback_past_several_releases_takes_all_of_them_back() -> None:
    assert set(rolled_back_releases([cycle(3), rollback(3, to=1)])) == {"2", "3"}
    assert set(rolled_back_releases([cycle(3), rollback(3, to=1), rollback(1, to=3)])) == {"1"}


# --- the parts of an action ----------------------------------------------------------------------------------------


def joint(**retrain: Any) -> Cycle:
    """A cycle whose refresh went live as release 2, and what came of its retrain."""
    refresh = PartOutcome(action=Action.REFRESH, accepted=True, release="2", score_before=0.5, score_after=0.8)
    model = PartOutcome(action=Action.RETRAIN, score_before=0.8, **retrain)
    parts = (refresh.model_copy(update={"expected_points": 30.0}), model.model_copy(update={"expected_points": 20.0}))
    return cycle(2, action=Action.REFRESH.with_retrain(), parts=parts)


def test_each_part_of_an_action_is_a_past_decision_with_its_own_gain() -> None:
    refresh, retrain = past_decisions([joint(accepted=False, score_after=0.7)])
    assert (refresh.action, refresh.accepted, refresh.expected_points, refresh.recovered_points) == (
        Action.REFRESH,
        True,
        30.0,
        30.0,
    )
    assert (retrain.action, retrain.accepted, retrain.expected_points, retrain.recovered_points) == (
        Action.RETRAIN,
        False,
        20.0,
        -10.0,
    )


def test_a_rejected_retrain_does_not_rule_out_the_refresh_beside_it() -> None:
    ended = joint(accepted=False, score_after=0.7)
    assert [*rejected_before([ended], ended.snapshot, ended.params)] == [Action.RETRAIN]


def test_rolling_back_the_model_alone_takes_back_the_retrain_alone() -> None:
    ended = joint(accepted=True, release="3", score_after=0.9)
    history = [ended, rollback(3, to=2)]
    assert [past.rolled_back for past in past_decisions(history)] == [False, True]
    assert [*rejected_before(history, ended.snapshot, ended.params)] == [Action.RETRAIN]


def trained(snapshot: str, accepted: bool, action: Action = Action.RETRAIN, **fields: Any) -> Cycle:
    """A cycle on `snapshot` of one part that changes the model."""
    part = PartOutcome(action=action, accepted=accepted, release="2" if accepted else None)
    outcome = "released" if accepted else "rejected"
    return cycle(2, action=action, snapshot=snapshot, params="p", outcome=outcome, parts=(part,), **fields)


def test_a_rejected_retrain_is_not_tried_again_with_the_same_examples() -> None:
    history = [trained("s1", accepted=False)]
    assert [*rejected_before(history, "s2", "p", {"s1"})] == [Action.RETRAIN]
    assert rejected_before(history, "s2", "p") == rejected_before(history, "s2", "other", {"s1"}) == {}
    assert rejected_before([trained("s1", accepted=False, action=Action.REFRESH)], "s2", "p", {"s1"}) == {}
    assert rejected_before([*history, trained("s2", accepted=True)], "s3", "p", {"s1", "s2"}) == {}


def test_a_dropped_adapter_is_not_trained_again_with_the_same_examples() -> None:
    history = [trained("s1", accepted=True), trained("s1", accepted=True, action=Action.DROP_ADAPTER)]
    assert [*rejected_before(history, "s2", "p", {"s1"})] == [Action.RETRAIN]
    assert retrained_snapshots([*history, cycle(snapshot="s9")]) == {"s1"}


# --- the budget and the cool-down ----------------------------------------------------------------------------------


def test_spent_hours_are_those_of_all_cycles_of_a_week_whatever_their_outcome() -> None:
    history = [
        cycle(at=days_ago(7.1), seconds=7200),
        cycle(at=days_ago(6.9), seconds=3600),
        cycle(at=days_ago(3), seconds=1800, outcome="failed"),
        idle(at=days_ago(1), seconds=90),
    ]
    assert spent_hours(history, NOW) == 1.525
    assert spent_hours([], NOW) == 0


def test_a_running_cycle_does_not_count_towards_spent_hours() -> None:
    ended = cycle(at=days_ago(1), seconds=3600)
    for seconds in (4, 90_000):
        assert spent_hours([ended, cycle(at=days_ago(1.5), seconds=seconds, outcome="running")], NOW) == 1.0


@pytest.mark.parametrize("decision", [action for action in ACTIONS.values() if action.retrains])
def test_the_cool_down_starts_at_the_last_cycle_that_trained(decision: Action) -> None:
    history = [
        cycle(action=decision, at=days_ago(3)),
        cycle(action=decision, at=days_ago(2), outcome="failed", release=None, score_after=None),
        cycle(action="REFRESH", at=days_ago(1)),
        rollback(3, to=1),
    ]
    assert hours_since_retrain(history, NOW) == 48
    assert hours_since_retrain(history[:1], NOW) == 72


@pytest.mark.parametrize("history", [[], [cycle()], [idle(), rollback(2, to=1)]], ids=["none", "refresh", "others"])
def test_without_a_retrain_there_is_no_cool_down(history: list[Cycle]) -> None:
    assert hours_since_retrain(history, NOW) is None


def test_past_decisions_have_the_gaps_measured_at_the_time() -> None:
    [measured] = past_decisions([cycle(signals={"index_gap": 0.2, "model_gap": 0.1})])
    assert (measured.index_gap, measured.model_gap) == (0.2, 0.1)
    [unmeasured] = past_decisions([cycle()])
    assert (unmeasured.index_gap, unmeasured.model_gap) == (None, None)


# --- the training lines --------------------------------------------------------------------------------------------


def test_the_last_cycle_that_validated_the_training_lines_is_found() -> None:
    validated = [cycle(number, signals={FILTERED_EXAMPLES: float(number)}) for number in (1, 2)]
    assert last_validated_cycle([*validated, cycle(3, signals={})]) == validated[1]
    assert last_validated_cycle([cycle(1, signals={FILTERED_EXAMPLES: 0.0})]) is not None
    assert last_validated_cycle([cycle(1, signals={})]) is None
    assert last_validated_cycle([]) is None


def test_the_last_decided_cycle_is_one_that_decided_and_finished() -> None:
    died = [cycle(2, outcome="failed"), cycle(3, outcome="killed"), cycle(4, outcome="running")]
    by_hand = cycle(5, action=None, undone="2", outcome="released")
    decided = cycle(1, action="NOTHING", outcome="nothing")
    assert last_decided_cycle([decided, *died, by_hand]) == decided
    assert failed_since_decided([decided, *died, by_hand]) == died
    assert failed_since_decided([*died, decided]) == []
    assert last_decided_cycle(died) is None
    assert failed_since_decided(died) == died
