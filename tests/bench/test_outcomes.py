"""Tests of the outcomes of actions: parts proven apart, the base model in their place, and removals."""

from __future__ import annotations

import pytest

from bench.outcomes import PartResult, carry_out
from bench.recorded_states import BASE, Seen, State
from bench.regret import SETTINGS
from ragtide.pipelines.records.action import Action
from tests.bench.test_regret import look

REFRESH, RETRAIN, BOTH = Action.REFRESH, Action.RETRAIN, Action.REFRESH.with_retrain()


def states(removed: str = "", **right: int) -> dict[str, Seen]:
    """Return states by key, `i0_m0=3` for index i0 and model m0 with 3 of 4 correct answers."""
    seen = [look(State(index=key[:2], model=key[3:]), count, removed=removed) for key, count in right.items()]
    return {state.state.key: state for state in seen}


def outcome(action: Action, step: dict[str, Seen], live: str = "i0/m0") -> list[PartResult]:
    return carry_out(action, step[live], step, SETTINGS)


def told(results: list[PartResult]) -> list[tuple[str, bool, str]]:
    return [(str(result.part), result.accepted, result.live.state.key) for result in results]


def test_nothing_has_no_parts() -> None:
    assert outcome(Action.NOTHING, states(i0_m0=1)) == []
    assert outcome(Action.HOLD, states(i0_m0=1)) == []


def test_the_index_goes_live_before_the_model_that_was_trained_on_it() -> None:
    results = outcome(BOTH, states(i0_m0=1, i1_m0=2, i1_m1=3, i0_base=0, i1_base=0))
    assert told(results) == [("REFRESH", True, "i1/m0"), ("RETRAIN", True, "i1/m1")]
    # The second proof asks the index that the first one brought live.
    assert {seen.state.key for seen in results[1].asked} == {"i1/m0", "i1/m1", "i1/base"}


def test_a_bad_model_does_not_hide_behind_a_good_refresh() -> None:
    results = outcome(BOTH, states(i0_m0=1, i1_m0=4, i1_m1=3, i0_base=0, i1_base=0))
    assert told(results) == [("REFRESH", True, "i1/m0"), ("RETRAIN", False, "i1/m0")]


def test_where_a_refresh_is_rejected_the_model_is_proven_on_the_live_index() -> None:
    step = states(i0_m0=3, i1_m0=1, i0_m1=4, i1_m1=4, i0_base=0, i1_base=0)
    assert told(outcome(BOTH, step)) == [("REFRESH", False, "i0/m0"), ("RETRAIN", True, "i0/m1")]


def test_the_base_model_goes_live_where_it_answers_better_than_a_new_adapter() -> None:
    step = states(i0_m0=2, i0_m1=2, i0_base=4)
    [result] = outcome(RETRAIN, step)
    assert (result.accepted, result.is_released, result.live.state.model) == (False, True, BASE)


def test_a_new_adapter_that_is_no_better_than_the_live_base_model_changes_nothing() -> None:
    step = states(i0_base=3, i0_m1=2)
    [result] = outcome(RETRAIN, step, live="i0/base")
    assert (result.accepted, result.is_released) == (False, False)


@pytest.mark.parametrize(("base", "live"), [(1, "i1/m0"), (4, "i1/base")])
def test_a_live_adapter_gives_way_only_to_a_base_model_that_is_surely_better(base: int, live: str) -> None:
    [result] = outcome(REFRESH, states(i0_m0=0, i1_m0=0, i1_base=base))
    assert result.live.state.key == live


def test_deleted_documents_leave_beside_a_rejected_refresh_which_is_proven_again() -> None:
    step = states(removed="i2", i0_m0=3, i1_m0=1, i2_m0=3, i0_base=0, i1_base=0)
    assert told(outcome(REFRESH, step)) == [("REMOVE", True, "i2/m0"), ("REFRESH", False, "i2/m0")]
    # Answers that went with the deleted documents are no fault of what is new.
    fewer = states(removed="i2", i0_m0=3, i1_m0=2, i2_m0=1, i0_base=0, i1_base=0)
    assert told(outcome(REFRESH, fewer)) == [("REMOVE", True, "i2/m0"), ("REFRESH", True, "i1/m0")]


def test_an_accepted_refresh_needs_no_removal() -> None:
    step = states(removed="i2", i0_m0=1, i1_m0=1, i2_m0=1, i1_base=0)
    assert told(outcome(REFRESH, step)) == [("REFRESH", True, "i1/m0")]


def test_a_removal_is_only_recorded_whatever_its_score() -> None:
    step = states(removed="i2", i0_m0=4, i2_m0=0)
    assert told(outcome(Action.REMOVE, step)) == [("REMOVE", True, "i2/m0")]
