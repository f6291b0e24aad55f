"""Tests of expected gains and forecast costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.interface import ExpectedGain
from ragtide.pipelines.policy.weigh import (
    LEAST_SECONDS,
    OPEN_GAP,
    forecast_seconds,
    gain_cycles,
    refresh_gain,
    retrain_gain,
    weigh_components,
)
from ragtide.pipelines.records.action import ACTIONS, Action, Component
from ragtide.pipelines.records.evidence import Costs, Evidence, Measure, PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import UNMOVED, codes, delta, evidence, measure, past, values_of, with_signals

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = PolicyParams()
UNMEASURED = Measure.unmeasured("no questions")
COSTS = Costs(refresh_seconds=10, retrain_seconds=300, prove_seconds=20, source="prior")
ENDS = st.tuples(*[st.integers(-50, 100)] * 3).map(sorted)
MEASURES = ENDS.map(lambda three: measure(three[1] / 100, three[0] / 100, three[2] / 100))
SHARES = st.integers(0, 100).map(lambda percent: measure(percent / 100))


def untaught(**signals: Any) -> Evidence:
    """A model that misses 40 points with the right passage in hand, at least 20 of them."""
    return evidence(**({"model_gap": measure(0.4, low=0.2, high=0.6)} | signals))


def ends(gain: ExpectedGain) -> tuple[float, float, float]:
    return tuple(round(one, 6) for one in (gain.low, gain.points, gain.high))  # type: ignore[return-value]


# --- the laws --------------------------------------------------------------------------------------------------------


@law
@given(MEASURES | st.just(UNMEASURED), SHARES | st.just(UNMEASURED), SHARES | st.just(UNMEASURED), st.integers(0, 12))
def test_a_refresh_gains_between_nothing_and_everything(gain: Measure, news: Measure, gold: Measure, new: int) -> None:
    signals = {"refresh_gain": gain, "changed_sentence_share": news, "score_gold": gold}
    found = refresh_gain(evidence(**signals, delta=delta(new=new)))
    assert 0 <= found.low <= found.points <= found.high <= 100


@law
@given(MEASURES, MEASURES | st.just(UNMEASURED), st.none() | st.integers(0, 500))
def test_a_retrain_gains_between_nothing_and_the_gap(gap: Measure, surprise: Measure, new: int | None) -> None:
    found = retrain_gain(evidence(model_gap=gap, excess_loss=surprise, new_examples=new), PARAMS)
    assert 0 <= found.low <= found.points <= found.high
    assert found.points <= max(0.0, 100 * (gap.value or 0.0))
    assert found.low <= max(0.0, 100 * (gap.low or 0.0))


@law
@given(st.integers(0, 300), st.integers(0, 300), MEASURES)
def test_more_new_examples_never_teach_less(few: int, more: int, surprise: Measure) -> None:
    little, much = (
        retrain_gain(untaught(new_examples=one, excess_loss=surprise), PARAMS).low for one in (few, few + more)
    )
    assert little <= much


# --- how long a gain is counted --------------------------------------------------------------------------------------

WAITED = past("NOTHING", accepted=False, model_gap=0.3, index_gap=0.2)


@pytest.mark.parametrize(("waited", "cycles"), [(0, 3), (1, 3), (2, 3), (3, 4), (9, 10)])
def test_a_gap_that_stands_is_counted_for_as_many_cycles_as_it_stood(waited: int, cycles: int) -> None:
    for half in Component:
        assert gain_cycles(evidence(past=(WAITED,) * waited).limits, PolicyParams(gain_lasts_cycles=3), half) == cycles


@pytest.mark.parametrize(
    ("last", "index", "model"),
    [
        (past("RETRAIN", model_gap=0.3, index_gap=0.2), 7, 1),
        (past("REFRESH", model_gap=0.3, index_gap=0.2), 1, 7),
        (past("REFRESH+RETRAIN", model_gap=0.3, index_gap=0.2), 1, 1),
        (past("RETRAIN", accepted=False, model_gap=0.3, index_gap=0.2), 7, 7),
        (past("NOTHING", accepted=False, model_gap=OPEN_GAP - 0.001, index_gap=0.2), 7, 1),
        (past("NOTHING", accepted=False, model_gap=0.3), 1, 7),
    ],
    ids=["retrained", "refreshed", "both", "refused", "no gap in the model", "index not measured"],
)
def test_what_was_done_about_a_half_or_needed_not_be_begins_anew(last: PastDecision, index: int, model: int) -> None:
    world, params = evidence(past=(*(WAITED,) * 5, last)).limits, PolicyParams(gain_lasts_cycles=1)
    assert (gain_cycles(world, params, Component.INDEX), gain_cycles(world, params, Component.MODEL)) == (index, model)


@law
@given(MEASURES, st.integers(0, 500), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_a_gap_that_stands_for_longer_never_makes_an_action_less_likely(
    gap: Measure, price: int, waited: int, more: int, moved: bool
) -> None:
    world = untaught(model_gap=gap, refresh_gain=gap, delta=delta() if moved else UNMOVED)
    params = PolicyParams(points_per_hour=price, gain_lasts_cycles=1)
    sooner, later = (
        make_decision(with_signals(world, **{"past": (WAITED,) * cycles}), params).action
        for cycles in (waited, waited + more)
    )
    assert sooner.refreshes <= later.refreshes
    assert sooner.retrains <= later.retrains


def test_what_is_not_worth_its_cost_today_is_at_last_chosen_if_nothing_changes() -> None:
    params = PolicyParams(points_per_hour=150, gain_lasts_cycles=1)
    world = untaught(delta=UNMOVED)
    chosen = [make_decision(with_signals(world, **{"past": (WAITED,) * waited}), params).action for waited in range(6)]
    assert chosen[0] == Action.NOTHING
    assert chosen[-1] == Action.RETRAIN
    assert sorted(chosen) == chosen


# --- the index -------------------------------------------------------------------------------------------------------


def test_an_index_that_holds_these_very_chunks_has_nothing_to_gain() -> None:
    found = refresh_gain(evidence(delta=UNMOVED, refresh_gain=measure(0.5)))
    assert (ends(found), codes(found.reasons)) == ((0, 0, 0), [ReasonCode.INDEX_CURRENT])


def test_a_measured_gain_counts_times_what_a_refresh_recovers() -> None:
    found = refresh_gain(evidence(refresh_gain=measure(0.5, low=0.25, high=0.75), changed_sentence_share=measure(0.0)))
    assert ends(found) == (20, 40, 60)
    assert values_of(found.reasons, ReasonCode.GAIN_MEASURED) == {"points": 50}
    assert ReasonCode.PAST_GAIN not in codes(found.reasons)


def test_news_that_no_question_asks_for_is_the_least_that_a_refresh_gains() -> None:
    found = refresh_gain(
        evidence(refresh_gain=measure(0.02, low=0.0), changed_sentence_share=measure(0.3), score_gold=measure(1))
    )
    assert ends(found) == (24, 24, 24)


def test_missing_answers_count_where_the_model_fails_whatever_is_before_it_and_could_be_taught() -> None:
    """Facts and the form of the answers moved at once: no answer is right, so none shows what the rows lack."""
    masked = evidence(
        score_gold=measure(0.0),
        model_gap=measure(0.95),
        refresh_gain=measure(0.0),
        missing_answers=measure(0.5, low=0.4, high=0.6),
        changed_sentence_share=measure(0.1),
    )
    found = weigh_components(masked, PARAMS).refresh.gain
    taught = weigh_components(masked, PARAMS).retrain.gain.points / 100
    assert ends(found) == pytest.approx([100 * taught * share * 0.8 for share in (0.4, 0.5, 0.6)])
    assert ReasonCode.GAIN_WITH_TRAINED_MODEL in codes(found.reasons)
    cannot_learn = with_signals(masked, **{"adapter_is_current": True})
    assert weigh_components(cannot_learn, PARAMS).refresh.gain.points == 0


def test_where_answers_show_what_the_rows_lack_the_missing_ones_add_nothing() -> None:
    shown = {"refresh_gain": measure(0.5), "changed_sentence_share": measure(0.0)}
    assert refresh_gain(evidence(**shown, missing_answers=measure(0.5))) == refresh_gain(evidence(**shown))


def test_cosmetic_edits_gain_nothing_however_many_chunks_they_touch() -> None:
    found = refresh_gain(
        evidence(refresh_gain=UNMEASURED, changed_sentence_share=measure(0.0), delta=delta(new=10, removed=10))
    )
    assert ends(found) == (0, 0, 0)
    assert values_of(found.reasons, ReasonCode.CHANGED_SENTENCES) == {"share": 0.0}
    assert values_of(found.reasons, ReasonCode.GAIN_ESTIMATED)["by_chunks"] is False


@pytest.mark.parametrize(
    ("news", "points", "by_chunks"),
    [
        (measure(0.1), 7.6, False),
        (UNMEASURED, 15.2, True),
    ],
    ids=["sentences", "chunks"],
)
def test_what_was_not_measured_is_stood_in_for_by_the_news_and_else_by_the_chunks(
    news: Measure, points: float, by_chunks: bool
) -> None:
    found = refresh_gain(evidence(refresh_gain=UNMEASURED, changed_sentence_share=news, delta=delta(new=2)))
    assert ends(found) == (points, points, points)
    estimated = values_of(found.reasons, ReasonCode.GAIN_ESTIMATED)
    assert (estimated["by_chunks"], estimated["why"]) == (by_chunks, "no questions")


def test_without_a_score_nothing_stands_in_for_a_gain() -> None:
    assert ends(refresh_gain(evidence(refresh_gain=UNMEASURED, score_gold=UNMEASURED))) == (0, 0, 0)


def test_what_refreshes_brought_is_told_and_counts() -> None:
    history = (past("REFRESH", recovered_points=0.0),) * 5
    found = refresh_gain(evidence(refresh_gain=measure(0.5), changed_sentence_share=measure(0.0), past=history))
    assert ends(found) == (20, 20, 20)
    assert values_of(found.reasons, ReasonCode.PAST_GAIN) == {"component": "index", "share": 0.4, "cycles": 5}


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"live_release": None}, ReasonCode.FIRST_INDEX),
        ({"delta": delta(new=0, removed=0)}, ReasonCode.MOVED_CHUNKS),
        ({"delta": delta().model_copy(update={"rebuild": "another embedder"})}, ReasonCode.REBUILT_CHUNKS),
    ],
)
def test_what_is_new_is_said(signals: dict[str, Any], code: ReasonCode) -> None:
    assert refresh_gain(evidence(**signals)).reasons[0].code is code


# --- the model -------------------------------------------------------------------------------------------------------


def test_a_first_retrain_is_thought_to_recover_half_of_the_gap() -> None:
    found = retrain_gain(untaught(), PARAMS)
    assert ends(found) == (10, 20, 30)
    assert values_of(found.reasons, ReasonCode.MODEL_BELOW_TARGET) == {"score": 0.95, "points": 40}
    assert found.needs is None


@pytest.mark.parametrize(("new", "share"), [(None, 1.0), (12, 0.5), (24, 0.75), (10_000, 1.0)])
def test_the_learning_curve_halves_what_is_left_every_so_many_new_examples(new: int | None, share: float) -> None:
    assert ends(retrain_gain(untaught(new_examples=new), PARAMS)) == (10 * share, 20 * share, 30 * share)


def test_how_many_examples_halve_it_is_a_setting() -> None:
    assert ends(retrain_gain(untaught(new_examples=6), PolicyParams(examples_half=6))) == (5, 10, 15)


@pytest.mark.parametrize(
    ("excess_loss", "share"),
    [
        (UNMEASURED, 1.0),
        (measure(0.5), 1.0),
        (measure(2.0), 1.0),
        (measure(0.25), 0.5),
        (measure(0.5, low=0.25), 0.5),
        (measure(0.5, low=-0.1), 0.0),
        (measure(-0.3), 0.0),
    ],
)
def test_examples_teach_as_far_as_their_excess_loss_is_sure(excess_loss: Measure, share: float) -> None:
    assert ends(retrain_gain(untaught(excess_loss=excess_loss), PARAMS)) == (10 * share, 20 * share, 30 * share)


def test_which_surprise_is_full_is_a_setting() -> None:
    params = PolicyParams(excess_loss_full=1.0, examples_half=24)
    found = retrain_gain(untaught(excess_loss=measure(0.5), new_examples=24), params)
    assert ends(found) == (2.5, 5, 7.5)
    assert values_of(found.reasons, ReasonCode.NEW_EXAMPLES) == {"new": 24, "examples": 100}
    assert values_of(found.reasons, ReasonCode.EXCESS_LOSS) == {"nats": 0.5}


def test_what_retrains_brought_is_told_and_counts() -> None:
    found = retrain_gain(untaught(past=(past(recovered_points=0.0),) * 4), PARAMS)
    assert ends(found) == (5, 10, 15)
    assert values_of(found.reasons, ReasonCode.PAST_GAIN) == {"component": "model", "share": 0.25, "cycles": 4}


@pytest.mark.parametrize(
    ("signals", "code", "needs"),
    [
        ({"model_gap": UNMEASURED}, ReasonCode.MODEL_GAP_UNMEASURED, None),
        ({"model_gap": measure(0.0)}, ReasonCode.MODEL_AT_TARGET, None),
        ({"model_gap": measure(-0.2)}, ReasonCode.MODEL_AT_TARGET, None),
        ({"adapter_is_current": True}, ReasonCode.SAME_ADAPTER, ReasonCode.IF_OTHER_EXAMPLES),
        ({"examples": 19}, ReasonCode.TOO_FEW_EXAMPLES, ReasonCode.IF_EXAMPLES),
        ({"new_examples": 0}, ReasonCode.NO_NEW_EXAMPLES, ReasonCode.IF_UNSEEN_EXAMPLES),
    ],
)
def test_where_nothing_can_be_learnt_the_gain_is_none_and_it_is_said_why(
    signals: dict[str, Any], code: ReasonCode, needs: ReasonCode | None
) -> None:
    found = retrain_gain(untaught(**signals), PARAMS)
    assert ends(found) == (0, 0, 0)
    assert found.reasons[0].code is code
    assert (found.needs and found.needs.code) is needs


@pytest.mark.parametrize(
    "signals",
    [{}, {"new_examples": 50}, {"examples": 19}, {"model_gap": measure(0.0)}],
    ids=["all new", "some new", "too few", "no gap"],
)
def test_another_base_model_in_the_params_is_told_and_changes_no_number(signals: dict[str, Any]) -> None:
    before, after = (
        retrain_gain(untaught(**signals, new_base_model=base), PARAMS) for base in (None, "packaged:other")
    )
    assert ReasonCode.NEW_BASE_MODEL not in codes(before.reasons)
    assert values_of(after.reasons, ReasonCode.NEW_BASE_MODEL) == {"model": "packaged:other"}
    others = [reason for reason in after.reasons if reason.code is not ReasonCode.NEW_BASE_MODEL]
    assert others == list(before.reasons)
    assert ends(after) == ends(before)


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action.NOTHING, 20),
        (Action.REFRESH, 30),
        (Action.REBUILD, 30),
        (Action.RETRAIN, 320),
        (Action.REFRESH.with_retrain(), 330),
        (Action.REBUILD.with_retrain(), 330),
    ],
)
def test_an_action_takes_its_steps_and_one_proof(action: Action, expected: float) -> None:
    assert forecast_seconds(action, evidence(costs=COSTS).limits) == expected


def test_nothing_is_free() -> None:
    free = COSTS.model_copy(update=dict.fromkeys(("refresh_seconds", "retrain_seconds", "prove_seconds"), 0.0))
    assert forecast_seconds(Action.REFRESH, evidence(costs=free).limits) == LEAST_SECONDS > 0


def test_rows_that_cannot_stay_are_weighed_as_a_rebuild() -> None:
    anew = delta().model_copy(update={"rebuild": "another embedder"})
    assert weigh_components(evidence(), PARAMS).refresh.action == Action.REFRESH
    assert weigh_components(evidence(delta=anew), PARAMS).refresh.action == Action.REBUILD


def test_both_halves_are_weighed_with_their_own_gain_and_cost() -> None:
    world = untaught(costs=COSTS)
    halves = weigh_components(world, PARAMS)
    assert (halves.refresh.gain, halves.refresh.seconds) == (refresh_gain(world), 30)
    assert (halves.retrain.action, halves.retrain.gain) == (Action.RETRAIN, retrain_gain(world, PARAMS))
    assert halves.retrain.seconds == 320


# --- what is gone and still known -----------------------------------------------------------------------------------

GONE = ("a.md", "b.md", "c.md")
NOTHING_TO_LEARN: dict[str, Any] = {"model_gap": measure(0.4), "new_examples": 0, "adapter_is_current": True}


def retrain(world: Evidence, **params: float) -> ExpectedGain:
    return weigh_components(world, PolicyParams(**params)).retrain.gain  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "signals",
    [NOTHING_TO_LEARN, {"model_gap": measure(0.0)}, {"model_gap": UNMEASURED}],
    ids=["nothing to learn", "target reached", "not measured"],
)
def test_to_forget_what_is_gone_is_worth_something_where_there_is_nothing_else_to_win(signals: dict[str, Any]) -> None:
    before, gain = (
        retrain(evidence(**signals)),
        retrain(evidence(**signals, deleted_training_documents=GONE), forget_points=2),
    )
    assert ends(before) == (0, 0, 0)
    assert ends(gain) == (6, 6, 6)
    forgets = Reason.of(ReasonCode.FORGETS_DELETED, documents=3, points=6.0)
    assert gain.reasons == (*before.reasons, forgets)
    assert gain.needs is None


def test_to_forget_is_added_to_what_is_learnt_and_is_no_part_of_the_gap() -> None:
    without, gain = retrain(untaught()), retrain(untaught(deleted_training_documents=GONE), forget_points=2)
    assert ends(gain) == tuple(end + 6 for end in ends(without))
    assert gain.gap == without.gap


def test_nothing_is_forgotten_where_there_are_too_few_examples_to_learn_from_instead() -> None:
    few = {"model_gap": measure(0.4), "examples": 3, "min_examples": 20}
    assert retrain(evidence(**few, deleted_training_documents=GONE), forget_points=2) == retrain(evidence(**few))


def test_a_gain_ends_at_a_hundred_points() -> None:
    gain = retrain(untaught(deleted_training_documents=GONE), forget_points=40)
    assert ends(gain) == (100, 100, 100)


def test_what_is_to_be_forgotten_makes_a_refresh_worth_no_more() -> None:
    world = evidence(model_gap=measure(0.4), score_gold=measure(0.1), missing_answers=measure(0.9))
    [plain, gone] = (
        weigh_components(one, PARAMS).refresh
        for one in (world, with_signals(world, **{"deleted_training_documents": GONE}))
    )
    assert gone == plain


def test_a_new_model_is_asked_for_its_skills_as_well() -> None:
    costs = COSTS.model_copy(update={"suite_seconds": 7.0})
    took = {
        action: forecast_seconds(action, evidence(costs=costs).limits)
        - forecast_seconds(action, evidence(costs=COSTS).limits)
        for action in ACTIONS.values()
    }
    assert all(more == (7 if action.retrains else 0) for action, more in took.items())
