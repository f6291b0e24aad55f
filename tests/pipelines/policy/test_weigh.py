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
from ragtide.pipelines.records.reason import ReasonCode
from tests.factories import UNMOVED, codes, delta, evidence, measure, past, values_of, with_signals

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = PolicyParams()
UNMEASURED = Measure.unmeasured("no questions")
COSTS = Costs(refresh_seconds=10, retrain_seconds=300, prove_seconds=20, source="prior")
ENDS = st.tuples(*[st.integers(-50, 100)] * 3).map(sorted)
MEASURES = ENDS.map(lambda three: measure(three[1] / 100, three[0] / 100, three[2] / 100))
SHARES = st.integers(0, 100).map(lambda percent: measure(percent / 100))


def with_model_gap(**signals: Any) -> Evidence:
    """Evidence of a model gap of 40 points with gold context, with a lower bound of 20 points."""
    return evidence(**({"model_gap": measure(0.4, low=0.2, high=0.6)} | signals))


def ends(gain: ExpectedGain) -> tuple[float, float, float]:
    return tuple(round(end, 6) for end in (gain.low, gain.points, gain.high))  # type: ignore[return-value]


# --- properties ------------------------------------------------------------------------------------------------------


@law
@given(MEASURES | st.just(UNMEASURED), SHARES | st.just(UNMEASURED), SHARES | st.just(UNMEASURED), st.integers(0, 12))
def test_the_gain_of_a_refresh_is_between_0_and_100_points(
    gain: Measure, changed_sentences: Measure, gold: Measure, new: int
) -> None:
    signals = {"refresh_gain": gain, "changed_sentence_share": changed_sentences, "score_gold": gold}
    expected = refresh_gain(evidence(**signals, delta=delta(new=new)))
    assert 0 <= expected.low <= expected.points <= expected.high <= 100


@law
@given(MEASURES, MEASURES | st.just(UNMEASURED), st.none() | st.integers(0, 500))
def test_the_gain_of_a_retrain_is_between_0_and_the_gap(gap: Measure, excess_loss: Measure, new: int | None) -> None:
    gain = retrain_gain(evidence(model_gap=gap, excess_loss=excess_loss, new_examples=new), PARAMS)
    assert 0 <= gain.low <= gain.points <= gain.high
    assert gain.points <= max(0.0, 100 * (gap.value or 0.0))
    assert gain.low <= max(0.0, 100 * (gap.low or 0.0))


@law
@given(st.integers(0, 300), st.integers(0, 300), MEASURES)
def test_more_new_examples_never_lower_the_gain(few: int, more: int, excess_loss: Measure) -> None:
    little, much = (
        retrain_gain(with_model_gap(new_examples=count, excess_loss=excess_loss), PARAMS).low
        for count in (few, few + more)
    )
    assert little <= much


# --- how long a gain is counted --------------------------------------------------------------------------------------

OPEN = past("NOTHING", accepted=False, model_gap=0.3, index_gap=0.2)


def open_for(states: int) -> tuple[PastDecision, ...]:
    """A gap that nothing was done about, over so many states of the data."""
    return tuple(OPEN.model_copy(update={"snapshot": f"old{number}"}) for number in range(states))


@pytest.mark.parametrize(("waited", "cycles"), [(0, 3), (1, 3), (2, 3), (3, 4), (9, 10)])
def test_a_persistent_gap_counts_for_as_many_cycles_as_it_has_lasted(waited: int, cycles: int) -> None:
    for component in Component:
        observed = evidence(past=open_for(waited))
        assert gain_cycles(observed, PolicyParams(gain_lasts_cycles=3), component) == cycles


def test_looking_at_the_same_data_again_does_not_count() -> None:
    params = PolicyParams(gain_lasts_cycles=1)
    same = OPEN.model_copy(update={"snapshot": "s1"})
    looked_at = evidence(past=(*open_for(2), *(same,) * 9), snapshot="s1")
    assert {gain_cycles(looked_at, params, component) for component in Component} == {3}


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
    ids=["retrained", "refreshed", "both", "rejected", "no gap in the model", "index not measured"],
)
def test_an_action_in_effect_or_a_closed_gap_resets_the_gain_cycles(last: PastDecision, index: int, model: int) -> None:
    last = last.model_copy(update={"snapshot": "s0"})
    observed, params = evidence(past=(*open_for(5), last)), PolicyParams(gain_lasts_cycles=1)
    assert (gain_cycles(observed, params, Component.INDEX), gain_cycles(observed, params, Component.MODEL)) == (
        index,
        model,
    )


@law
@given(MEASURES, st.integers(0, 500), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_a_longer_lasting_gap_never_makes_an_action_less_likely(
    gap: Measure, price: int, waited: int, more: int, moved: bool
) -> None:
    observed = with_model_gap(model_gap=gap, refresh_gain=gap, delta=delta() if moved else UNMOVED)
    params = PolicyParams(points_per_hour=price, gain_lasts_cycles=1)
    sooner, later = (
        make_decision(with_signals(observed, **{"past": (OPEN,) * cycles}), params).action
        for cycles in (waited, waited + more)
    )
    assert sooner.refreshes <= later.refreshes
    assert sooner.retrains <= later.retrains


def test_a_persistent_gap_is_eventually_worth_its_cost() -> None:
    params = PolicyParams(points_per_hour=150, gain_lasts_cycles=1)
    observed = with_model_gap(delta=UNMOVED)
    chosen = [make_decision(with_signals(observed, **{"past": (OPEN,) * waited}), params).action for waited in range(6)]
    assert chosen[0] == Action.NOTHING
    assert chosen[-1] == Action.RETRAIN
    assert sorted(chosen) == chosen


# --- the index -------------------------------------------------------------------------------------------------------


def test_a_current_index_has_no_gain() -> None:
    gain = refresh_gain(evidence(delta=UNMOVED, refresh_gain=measure(0.5)))
    assert (ends(gain), codes(gain.reasons)) == ((0, 0, 0), [ReasonCode.INDEX_CURRENT])


def test_a_measured_gain_is_multiplied_by_the_learned_share() -> None:
    gain = refresh_gain(evidence(refresh_gain=measure(0.5, low=0.25, high=0.75), changed_sentence_share=measure(0.0)))
    assert ends(gain) == (20, 40, 60)
    assert values_of(gain.reasons, ReasonCode.GAIN_MEASURED) == {"points": 50}
    assert ReasonCode.PAST_GAIN not in codes(gain.reasons)


def test_the_share_of_changed_sentences_is_a_lower_limit_of_the_gain() -> None:
    gain = refresh_gain(
        evidence(refresh_gain=measure(0.02, low=0.0), changed_sentence_share=measure(0.3), score_gold=measure(1))
    )
    assert ends(gain) == (24, 24, 24)


def test_missing_answers_count_where_the_model_fails_with_any_context_and_can_be_trained() -> None:
    """Facts and answer format changed at once: no answer is correct, so none shows what the index lacks."""
    observed_gaps = evidence(
        score_gold=measure(0.0),
        model_gap=measure(0.95),
        refresh_gain=measure(0.0),
        missing_answers=measure(0.5, low=0.4, high=0.6),
        changed_sentence_share=measure(0.1),
    )
    gain = weigh_components(observed_gaps, PARAMS).refresh.gain
    trained_share = weigh_components(observed_gaps, PARAMS).retrain.gain.points / 100
    assert ends(gain) == pytest.approx([100 * trained_share * share * 0.8 for share in (0.4, 0.5, 0.6)])
    assert ReasonCode.GAIN_WITH_TRAINED_MODEL in codes(gain.reasons)
    cannot_learn = with_signals(observed_gaps, **{"adapter_is_current": True})
    assert weigh_components(cannot_learn, PARAMS).refresh.gain.points == 0


def test_missing_answers_add_nothing_to_a_measured_gain() -> None:
    shown = {"refresh_gain": measure(0.5), "changed_sentence_share": measure(0.0)}
    assert refresh_gain(evidence(**shown, missing_answers=measure(0.5))) == refresh_gain(evidence(**shown))


def test_cosmetic_edits_have_no_gain_however_many_chunks_they_change() -> None:
    gain = refresh_gain(
        evidence(refresh_gain=UNMEASURED, changed_sentence_share=measure(0.0), delta=delta(new=10, removed=10))
    )
    assert ends(gain) == (0, 0, 0)
    assert values_of(gain.reasons, ReasonCode.CHANGED_SENTENCES) == {"share": 0.0}
    assert values_of(gain.reasons, ReasonCode.GAIN_ESTIMATED)["by_chunks"] is False


@pytest.mark.parametrize(
    ("changed_sentences", "points", "by_chunks"),
    [
        (measure(0.1), 7.6, False),
        (UNMEASURED, 15.2, True),
    ],
    ids=["sentences", "chunks"],
)
def test_an_unmeasured_gain_is_estimated_from_changed_sentences_or_else_chunks(
    changed_sentences: Measure, points: float, by_chunks: bool
) -> None:
    gain = refresh_gain(evidence(refresh_gain=UNMEASURED, changed_sentence_share=changed_sentences, delta=delta(new=2)))
    assert ends(gain) == (points, points, points)
    estimated = values_of(gain.reasons, ReasonCode.GAIN_ESTIMATED)
    assert (estimated["by_chunks"], estimated["why"]) == (by_chunks, "no questions")


def test_without_a_score_an_unmeasured_gain_is_0() -> None:
    assert ends(refresh_gain(evidence(refresh_gain=UNMEASURED, score_gold=UNMEASURED))) == (0, 0, 0)


def test_the_gain_of_past_refreshes_counts_and_is_a_reason() -> None:
    history = (past("REFRESH", recovered_points=0.0),) * 5
    gain = refresh_gain(evidence(refresh_gain=measure(0.5), changed_sentence_share=measure(0.0), past=history))
    assert ends(gain) == (20, 20, 20)
    assert values_of(gain.reasons, ReasonCode.PAST_GAIN) == {"component": "index", "share": 0.4, "cycles": 5}


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"live_release": None}, ReasonCode.FIRST_INDEX),
        ({"delta": delta(new=0, removed=0)}, ReasonCode.MOVED_CHUNKS),
        ({"delta": delta().model_copy(update={"rebuild": "another embedder"})}, ReasonCode.REBUILT_CHUNKS),
    ],
)
def test_the_first_reason_is_what_is_new(signals: dict[str, Any], code: ReasonCode) -> None:
    assert refresh_gain(evidence(**signals)).reasons[0].code is code


# --- the model -------------------------------------------------------------------------------------------------------


def test_a_first_retrain_is_expected_to_recover_half_of_the_gap() -> None:
    gain = retrain_gain(with_model_gap(), PARAMS)
    assert ends(gain) == (10, 20, 30)
    assert values_of(gain.reasons, ReasonCode.MODEL_BELOW_TARGET) == {"score": 0.95, "points": 40}
    assert gain.needs is None


@pytest.mark.parametrize(("new", "share"), [(None, 1.0), (12, 0.5), (24, 0.75), (10_000, 1.0)])
def test_each_examples_half_new_examples_close_half_of_the_remaining_gap(new: int | None, share: float) -> None:
    assert ends(retrain_gain(with_model_gap(new_examples=new), PARAMS)) == (10 * share, 20 * share, 30 * share)


def test_examples_half_is_a_setting() -> None:
    assert ends(retrain_gain(with_model_gap(new_examples=6), PolicyParams(examples_half=6))) == (5, 10, 15)


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
def test_the_gain_grows_with_the_lower_bound_of_the_excess_loss(excess_loss: Measure, share: float) -> None:
    assert ends(retrain_gain(with_model_gap(excess_loss=excess_loss), PARAMS)) == (10 * share, 20 * share, 30 * share)


def test_the_excess_loss_of_full_gain_is_a_setting() -> None:
    params = PolicyParams(excess_loss_full=1.0, examples_half=24)
    gain = retrain_gain(with_model_gap(excess_loss=measure(0.5), new_examples=24), params)
    assert ends(gain) == (2.5, 5, 7.5)
    assert values_of(gain.reasons, ReasonCode.NEW_EXAMPLES) == {"new": 24, "examples": 100}
    assert values_of(gain.reasons, ReasonCode.EXCESS_LOSS) == {"nats": 0.5}


def test_the_gain_of_past_retrains_counts_and_is_a_reason() -> None:
    gain = retrain_gain(with_model_gap(past=(past(recovered_points=0.0),) * 4), PARAMS)
    assert ends(gain) == (5, 10, 15)
    assert values_of(gain.reasons, ReasonCode.PAST_GAIN) == {"component": "model", "share": 0.25, "cycles": 4}


@pytest.mark.parametrize(
    ("signals", "code", "needs"),
    [
        ({"model_gap": UNMEASURED}, ReasonCode.MODEL_GAP_UNMEASURED, None),
        ({"model_gap": measure(0.0)}, ReasonCode.MODEL_AT_TARGET, None),
        ({"model_gap": measure(-0.2)}, ReasonCode.MODEL_AT_TARGET, None),
        ({"adapter_is_current": True}, ReasonCode.SAME_ADAPTER, ReasonCode.IF_OTHER_EXAMPLES),
        ({"cut_short_after": 8}, ReasonCode.CUT_SHORT, ReasonCode.IF_MORE_MINUTES),
        ({"examples": 19}, ReasonCode.TOO_FEW_EXAMPLES, ReasonCode.IF_EXAMPLES),
        ({"new_examples": 0}, ReasonCode.NO_NEW_EXAMPLES, ReasonCode.IF_UNSEEN_EXAMPLES),
    ],
)
def test_without_anything_to_learn_the_gain_is_0_with_a_reason(
    signals: dict[str, Any], code: ReasonCode, needs: ReasonCode | None
) -> None:
    gain = retrain_gain(with_model_gap(**signals), PARAMS)
    assert ends(gain) == (0, 0, 0)
    assert gain.reasons[0].code is code
    assert (gain.needs and gain.needs.code) is needs


@pytest.mark.parametrize(
    "signals",
    [{}, {"new_examples": 50}, {"examples": 19}, {"model_gap": measure(0.0)}],
    ids=["all new", "some new", "too few", "no gap"],
)
def test_a_new_base_model_is_a_reason_and_changes_no_number(signals: dict[str, Any]) -> None:
    before, after = (
        retrain_gain(with_model_gap(**signals, new_base_model=base), PARAMS) for base in (None, "packaged:other")
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
def test_the_forecast_is_the_steps_of_an_action_and_one_evaluation(action: Action, expected: float) -> None:
    assert forecast_seconds(action, evidence(costs=COSTS).limits) == expected


def test_every_action_is_forecast_to_take_time() -> None:
    free = COSTS.model_copy(update=dict.fromkeys(("refresh_seconds", "retrain_seconds", "prove_seconds"), 0.0))
    assert forecast_seconds(Action.REFRESH, evidence(costs=free).limits) == LEAST_SECONDS > 0


def test_an_index_of_other_settings_is_weighed_as_a_rebuild() -> None:
    rebuilding = delta().model_copy(update={"rebuild": "another embedder"})
    assert weigh_components(evidence(), PARAMS).refresh.action == Action.REFRESH
    assert weigh_components(evidence(delta=rebuilding), PARAMS).refresh.action == Action.REBUILD


def test_each_component_is_weighed_with_its_own_gain_and_cost() -> None:
    observed = with_model_gap(costs=COSTS)
    options = weigh_components(observed, PARAMS)
    assert (options.refresh.gain, options.refresh.seconds) == (refresh_gain(observed), 30)
    assert (options.retrain.action, options.retrain.gain) == (Action.RETRAIN, retrain_gain(observed, PARAMS))
    assert options.retrain.seconds == 320


# --- deleted training documents --------------------------------------------------------------------------------------

DELETED = ("a.md", "b.md", "c.md")


def test_deleted_training_documents_are_no_gain() -> None:
    observed = evidence(model_gap=measure(0.4), score_gold=measure(0.1), missing_answers=measure(0.9))
    [plain, with_deletions] = (
        weigh_components(variant, PARAMS)
        for variant in (observed, with_signals(observed, **{"deleted_training_documents": DELETED}))
    )
    assert with_deletions == plain


def test_only_a_retrain_takes_the_time_of_the_regression_suites() -> None:
    costs = COSTS.model_copy(update={"suite_seconds": 7.0})
    extra_seconds = {
        action: forecast_seconds(action, evidence(costs=costs).limits)
        - forecast_seconds(action, evidence(costs=COSTS).limits)
        for action in ACTIONS.values()
    }
    assert all(more == (7 if action.retrains else 0) for action, more in extra_seconds.items())
