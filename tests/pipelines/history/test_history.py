"""Is every decision that came to its end told with what came of it, and no other?"""

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
    rolled_back_releases,
    spent_hours,
)
from ragtide.pipelines.records.action import ACTIONS, Action
from ragtide.pipelines.records.evidence import PastDecision
from ragtide.pipelines.records.release import Cycle

NOW = datetime(2030, 1, 8, tzinfo=UTC)
NUMBERS = {
    EXPECTED_POINTS: 20.0,
    FORECAST_SECONDS: 330.0,
    ACTION_SECONDS: 300.0,
    LIVE_SCORE: 0.5,
    CHANGED_SHARE: 0.25,
    SHIFT: 0.1,
}


def turn(number: int = 1, **fields: Any) -> Cycle:
    """A turn that made the release of its number, and gained ten points."""
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
    """A turn that built nothing."""
    usual = {"action": "NOTHING", "outcome": "nothing", "release": None, "signals": {LIVE_SCORE: 0.5}}
    return turn(number, **(usual | {"score_before": None, "score_after": None} | fields))


def refused(number: int = 1) -> Cycle:
    return turn(number, outcome="rejected", detail="answer score", release=None, score_after=0.4)


def rollback(undone: int, to: int, why: str = "wrong answers") -> Cycle:
    return idle(action=None, name="rollback", outcome="rolled_back", undone=str(undone), release=str(to), reason=why)


def days_ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


# --- what is told --------------------------------------------------------------------------------------------------


def test_a_decision_is_told_with_what_was_expected_and_what_came_of_it() -> None:
    assert past_decisions([turn(3)]) == (
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


def test_what_was_not_recorded_is_none_and_never_nought() -> None:
    [one] = past_decisions([turn(signals={})])
    told = one.model_dump(exclude={"record_version", "cycle", "action", "accepted", "rolled_back"})
    assert {name for name, value in told.items() if value is not None} == {"recovered_points"}


def test_what_the_gate_refused_is_told_with_the_loss_that_it_would_have_been() -> None:
    [one] = past_decisions([refused()])
    assert (one.accepted, one.recovered_points) == (False, -10)


@pytest.mark.parametrize("decision", ["NOTHING", "HOLD"])
def test_a_turn_that_built_nothing_is_told_too(decision: str) -> None:
    [one] = past_decisions([idle(action=decision)])
    assert (str(one.action), one.accepted, one.recovered_points, one.score) == (decision, False, None, 0.5)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from([turn, idle, refused]), max_size=12))
def test_the_order_is_that_of_the_turns(kinds: list[Any]) -> None:
    history = [make(number) for number, make in enumerate(kinds, start=1)]
    told = past_decisions(history)
    assert [(one.cycle, one.action) for one in told] == [(cycle.name, cycle.action) for cycle in history]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["REFRESH", "RETRAIN", "NOTHING", "HOLD"]), max_size=6), st.data())
def test_turns_that_never_ended_change_nothing_of_what_is_told(decisions: list[str], data: st.DataObject) -> None:
    history = [turn(number, action=decision) for number, decision in enumerate(decisions)]
    outcomes = data.draw(st.lists(st.sampled_from(["failed", "killed", "running"]), max_size=4))
    mixed = list(history)
    for outcome in outcomes:
        decision = data.draw(st.sampled_from(["REFRESH", "NOTHING", "HOLD", None]))
        broken = turn(99, action=decision, outcome=outcome, release=None)
        mixed.insert(data.draw(st.integers(0, len(mixed))), broken)
    assert past_decisions(mixed) == past_decisions(history)


def test_a_release_by_hand_is_no_decision() -> None:
    assert past_decisions([turn(action=None), rollback(2, to=1)]) == ()


def test_only_so_many_are_remembered_and_the_last_ones() -> None:
    told = past_decisions([idle(number) for number in range(REMEMBERED + 5)])
    assert (len(told), told[0].cycle, told[-1].cycle) == (REMEMBERED, "cycle-5", f"cycle-{REMEMBERED + 4}")


# --- gone back -----------------------------------------------------------------------------------------------------


def test_a_release_that_was_rolled_back_is_marked_and_no_other() -> None:
    history = [turn(1), turn(2), refused(3), rollback(2, to=1)]
    assert [one.rolled_back for one in past_decisions(history)] == [False, True, False]
    assert rolled_back_releases(history) == {"2": "wrong answers"}


def test_going_forward_again_takes_the_mark_off() -> None:
    history = [turn(1), turn(2), rollback(2, to=1), rollback(1, to=2)]
    assert [one.rolled_back for one in past_decisions(history)] == [True, False]
    assert rolled_back_releases([*history, rollback(2, to=1, why="once more")]) == {"2": "once more"}


# --- the budget and the cool-down ----------------------------------------------------------------------------------


def test_the_hours_of_a_week_are_those_of_every_turn_whatever_came_of_it() -> None:
    history = [
        turn(at=days_ago(7.1), seconds=7200),
        turn(at=days_ago(6.9), seconds=3600),
        turn(at=days_ago(3), seconds=1800, outcome="failed"),
        idle(at=days_ago(1), seconds=90),
    ]
    assert spent_hours(history, NOW) == 1.525
    assert spent_hours([], NOW) == 0


def test_a_turn_that_still_goes_on_counts_for_no_hours_however_long_it_has_been_going_on() -> None:
    ended = turn(at=days_ago(1), seconds=3600)
    for seconds in (4, 90_000):
        assert spent_hours([ended, turn(at=days_ago(1.5), seconds=seconds, outcome="running")], NOW) == 1.0


@pytest.mark.parametrize("decision", [action for action in ACTIONS.values() if action.retrains])
def test_the_cool_down_runs_from_the_last_turn_that_trained(decision: Action) -> None:
    history = [
        turn(action=decision, at=days_ago(3)),
        turn(action=decision, at=days_ago(2), outcome="failed", release=None, score_after=None),
        turn(action="REFRESH", at=days_ago(1)),
        rollback(3, to=1),
    ]
    assert hours_since_retrain(history, NOW) == 48
    assert hours_since_retrain(history[:1], NOW) == 72


@pytest.mark.parametrize("history", [[], [turn()], [idle(), rollback(2, to=1)]], ids=["none", "refresh", "others"])
def test_without_a_retrain_there_is_no_cool_down(history: list[Cycle]) -> None:
    assert hours_since_retrain(history, NOW) is None


def test_the_gaps_that_stood_are_remembered() -> None:
    [told] = past_decisions([turn(signals={"index_gap": 0.2, "model_gap": 0.1})])
    assert (told.index_gap, told.model_gap) == (0.2, 0.1)
    [unmeasured] = past_decisions([turn()])
    assert (unmeasured.index_gap, unmeasured.model_gap) == (None, None)


# --- the training lines --------------------------------------------------------------------------------------------


def test_the_last_turn_that_looked_at_the_training_lines_is_found() -> None:
    looked = [turn(number, signals={FILTERED_EXAMPLES: float(number)}) for number in (1, 2)]
    assert last_validated_cycle([*looked, turn(3, signals={})]) == looked[1]
    assert last_validated_cycle([turn(1, signals={FILTERED_EXAMPLES: 0.0})]) is not None
    assert last_validated_cycle([turn(1, signals={})]) is None
    assert last_validated_cycle([]) is None


def test_the_last_turn_that_judged_is_one_that_decided_and_came_to_its_end() -> None:
    died = [turn(2, outcome="failed"), turn(3, outcome="killed"), turn(4, outcome="running")]
    by_hand = turn(5, action=None, undone="2", outcome="released")
    judged = turn(1, action="NOTHING", outcome="nothing")
    assert last_decided_cycle([judged, *died, by_hand]) == judged
    assert failed_since_decided([judged, *died, by_hand]) == died
    assert failed_since_decided([*died, judged]) == []
    assert last_decided_cycle(died) is None
    assert failed_since_decided(died) == died
