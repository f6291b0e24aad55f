"""Tests of the decision: purity, monotonicity in what was measured, rules, limits and reasons."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.weigh import forecast_seconds, points_per_hour, weigh_components
from ragtide.pipelines.records.action import ACTIONS, Action
from ragtide.pipelines.records.data import ChangeSet, QuarantinedDocument, Rename
from ragtide.pipelines.records.decision import Decision
from ragtide.pipelines.records.evidence import NOT_REQUESTED, Costs, Evidence, GoldenLosses, Measure, PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode, Value
from ragtide.pipelines.reports.wording import (
    counterfactual_sentences,
    decision_sentences,
    option_text,
    reason_sentences,
)
from tests.factories import (
    UNCHANGED,
    UNMOVED,
    codes,
    delta,
    evidence,
    measure,
    option_of,
    past,
    signal_of,
    values_of,
    with_signals,
)

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = PolicyParams(gain_lasts_cycles=3, examples_half=24)
UNMEASURED = Measure.unmeasured("no questions")
BOTH = str(Action.REFRESH.with_retrain())
QUARANTINED = QuarantinedDocument(
    document="b.pdf", digest="2" * 32, reason="is scanned", attempts=1, since="2030-01-01T00:00:00+00:00"
)
DELETION = ChangeSet(before="s0", after="s1", removed=("b.md",))
MOVED = ChangeSet(before="s0", after="s1", renamed=(Rename(before="b.md", after="c.md"),))

PRICES = st.builds(PolicyParams, points_per_hour=st.integers(0, 500))
CHANGES = st.sampled_from(
    [UNCHANGED, evidence().data.changes, DELETION, MOVED, DELETION.model_copy(update={"added": ("c.md",)})]
)
SMALL_COUNTS = st.integers(0, 12)
REBUILD = "the index was built with another embedder or chunker (1, now 2)"
PLAIN = st.builds(
    delta,
    new=SMALL_COUNTS,
    removed=SMALL_COUNTS,
    upserted=st.integers(0, 1),
    deleted=st.integers(0, 1),
    documents_deleted=st.integers(0, 2),
)
DELTAS = PLAIN | PLAIN.map(lambda plain: plain.model_copy(update={"rebuild": REBUILD}))
SECONDS = st.integers(0, 3000).map(float)
COSTS = st.builds(
    Costs, refresh_seconds=SECONDS, retrain_seconds=SECONDS, prove_seconds=SECONDS, source=st.just("prior")
)
SINGLE_ACTIONS = ("REFRESH", "RETRAIN", "REBUILD")
REJECTABLE = (*SINGLE_ACTIONS, BOTH, "REBUILD+RETRAIN")
# A retrain is possible in most draws, so that both components are weighed often.
TRAINABLE = {"examples": 100, "adapter_is_current": False}
TRAINING_STATES = st.sampled_from(
    [TRAINABLE] * 4 + [TRAINABLE | {"examples": 19}, TRAINABLE | {"adapter_is_current": True}]
)
RETRAINS = st.sampled_from(["RETRAIN", BOTH, "REBUILD+RETRAIN"])
PASTS = st.builds(
    past,
    st.sampled_from(["NOTHING", "REFRESH", "RETRAIN", BOTH]),
    accepted=st.booleans(),
    rolled_back=st.booleans(),
    expected_points=st.sampled_from([None, 0.5, 20.0]),
    recovered_points=st.sampled_from([None, -5.0, 0.0, 10.0, 30.0]),
)
# The signals that a decision lists as unmeasured; the others are parts of the same measurement or follow from it.
LISTED = (
    "score_gold",
    "refresh_gain",
    "embedder_gap",
    "stale_facts",
    "resurfaced_deletions",
    "novelty",
    "shift",
    "vocabulary",
    "excess_loss",
)
MEASURES = (*LISTED, "score_retrieved", "index_gap", "model_gap", "malformed_share", "changed_sentence_share")
PENDING = {"a.md": "0" * 32, "b.md": "1" * 32}


def measured(lowest: int) -> st.SearchStrategy[Measure]:
    """Measures between lowest/100 and 1, with their intervals."""
    end = st.integers(lowest, 100)
    return (
        st.tuples(end, end, end).map(sorted).map(lambda three: measure(three[1] / 100, three[0] / 100, three[2] / 100))
    )


@st.composite
def evidence_records(draw: st.DrawFn, rejectable: tuple[str, ...] = REJECTABLE, all_measured: bool = False) -> Evidence:
    """Evidence of every kind; if the score with gold context is unmeasured, so is the model gap."""
    gold, gap, gain = draw(measured(0)), draw(measured(-20)), draw(measured(-20))
    changed_sentences, excess_loss = draw(measured(0)), draw(measured(-20))
    new_examples: int | None = draw(st.sampled_from([0, 5, 24, 100]))
    if not all_measured:
        known = draw(st.lists(st.integers(0, 4), min_size=6, max_size=6))
        gold, gap, gain, changed_sentences, excess_loss = (
            value if is_known else UNMEASURED
            for value, is_known in zip((gold, gap, gain, changed_sentences, excess_loss), known, strict=False)
        )
        new_examples = new_examples if known[5] else None
    rejected_actions = (
        st.dictionaries(st.sampled_from(rejectable), st.just("the gate rejected it")) if rejectable else st.just({})
    )
    return evidence(
        live_release=draw(st.sampled_from(["1", None])),
        changes=draw(CHANGES),
        delta=draw(DELTAS),
        score_gold=gold,
        model_gap=UNMEASURED if gold.value is None else gap,
        refresh_gain=gain,
        changed_sentence_share=changed_sentences,
        excess_loss=excess_loss,
        new_examples=new_examples,
        past=tuple(draw(st.lists(PASTS, max_size=2))),
        stale_questions=draw(st.sampled_from([(), ("q1", "q2")])),
        rejected_actions=draw(rejected_actions),
        costs=draw(COSTS),
        **draw(TRAINING_STATES),
    )


def widened(value: Measure, by: int) -> Measure:
    """The same value with a lower bound that is `by` hundredths lower."""
    return value.model_copy(update={"low": (value.low or 0) - by / 100})


def raised(value: Measure, by: int) -> Measure:
    """Value and interval shifted up by `by` hundredths."""
    return value.model_copy(update={end: (getattr(value, end) or 0) + by / 100 for end in ("value", "low", "high")})


def worse(observed: Evidence, signal: str, by: int) -> Evidence:
    """The same evidence with one signal of damage increased."""
    if signal == "new_examples":
        return with_signals(observed, new_examples=(observed.training.new_examples or 0) + by)
    return with_signals(observed, **{signal: raised(signal_of(observed, signal), by)})


def with_decision(observed: Evidence, decision: PastDecision) -> Evidence:
    return with_signals(observed, past=(*observed.limits.past, decision))


def on_the_edge(params: PolicyParams, *observations: Evidence) -> list[PolicyParams]:
    """The params, and those with a price at which an option is only just worth it, where a property fails first."""
    options = [
        option for observed in observations for option in vars(weigh_components(observed, params)).values() if option
    ]
    prices = {points_per_hour(option) for option in options}
    return [params, *(params.model_copy(update={"points_per_hour": price}) for price in sorted(prices))]


def times(costs: Costs, factor: float) -> Costs:
    steps = ("refresh_seconds", "retrain_seconds", "prove_seconds")
    return costs.model_copy(update={step: factor * getattr(costs, step) for step in steps})


def rank(action: Action) -> int:
    """The position of an action in the order of cost."""
    return list(ACTIONS.values()).index(action)


def refresh_reasons(decision: Decision) -> tuple[Reason, ...]:
    return decision.options[1].reasons


def retrain_reasons(decision: Decision) -> tuple[Reason, ...]:
    return option_of(decision, Action.RETRAIN).reasons


def counterfactual(decision: Decision, action: Action, code: ReasonCode) -> dict[str, Value]:
    """The values of an option's counterfactual, which must have that code."""
    reason = option_of(decision, action).counterfactual
    assert reason is not None
    assert reason.code is code
    return reason.values


def index_action(observed: Evidence) -> Action:
    """The action on the index: a rebuild where its settings changed, else a refresh."""
    return Action.REBUILD if observed.data.delta.rebuild else Action.REFRESH


def rebuild_evidence(**signals: Any) -> Evidence:
    """Evidence of a live release whose index was built with other settings."""
    return evidence(**({"delta": delta(to_embed=10).model_copy(update={"rebuild": REBUILD})} | signals))


def action_at(points_per_hour: float, **signals: Any) -> Action:
    return make_decision(evidence(**signals), PARAMS.model_copy(update={"points_per_hour": points_per_hour})).action


# --- properties ------------------------------------------------------------------------------------------------------


@law
@given(evidence_records(), PRICES)
def test_the_same_evidence_gives_a_byte_identical_decision(observed: Evidence, params: PolicyParams) -> None:
    before = observed.model_dump_json()
    first = make_decision(observed, params).model_dump_json()
    again = Evidence.model_validate_json(before)
    turned = with_signals(again, rejected_actions=dict(reversed(again.limits.rejected_actions.items())))
    assert make_decision(turned, params).model_dump_json() == first
    assert observed.model_dump_json() == before
    assert Decision.model_validate_json(first).model_dump_json() == first


@law
@given(evidence_records(), PRICES)
def test_every_option_is_weighed_and_has_reasons(observed: Evidence, params: PolicyParams) -> None:
    decision, index = make_decision(observed, params), index_action(observed)
    joint = index.with_retrain()
    assert [option.action for option in decision.options] == [Action.NOTHING, index, Action.RETRAIN, joint]
    assert all(option.reasons for option in decision.options)
    assert len(decision.reasons) == bool(observed.scores.stale_questions)
    assert (decision.policy, decision.proposed) == ("evidence", None)
    assert [option.action for option in decision.options if option.counterfactual] == [index, Action.RETRAIN]


@law
@given(evidence_records(rejectable=SINGLE_ACTIONS), PRICES)
def test_the_action_consists_of_the_options_that_are_worth_it(observed: Evidence, params: PolicyParams) -> None:
    decision, index = make_decision(observed, params), index_action(observed)
    assert decision.action.refreshes is option_of(decision, index).worth_it
    assert decision.action.rebuilds is (option_of(decision, index).worth_it and index == Action.REBUILD)
    assert decision.action.retrains is option_of(decision, Action.RETRAIN).worth_it
    assert option_of(decision, index.with_retrain()).worth_it is decision.action.is_joint


@law
@given(evidence_records(), PRICES)
def test_a_rejected_action_is_not_chosen_again(observed: Evidence, params: PolicyParams) -> None:
    assert make_decision(observed, params).action not in observed.limits.rejected_actions


DAMAGE = ("refresh_gain", "changed_sentence_share", "model_gap", "excess_loss", "new_examples")
CERTAIN_EVIDENCE = evidence_records(rejectable=(), all_measured=True)


@law
@given(CERTAIN_EVIDENCE, PRICES, st.integers(1, 100))
def test_more_damage_never_gives_a_cheaper_action_or_drops_a_component(
    observed: Evidence, params: PolicyParams, by: int
) -> None:
    damaged = [worse(observed, signal, by) for signal in DAMAGE]
    for worsened, edge in product(damaged, on_the_edge(params, observed)):
        before, after = make_decision(observed, edge).action, make_decision(worsened, edge).action
        assert rank(after) >= rank(before)
        assert after.refreshes >= before.refreshes
        assert after.retrains >= before.retrains


@law
@given(evidence_records(all_measured=True), PRICES, st.integers(0, 100))
def test_a_larger_gain_never_makes_a_refresh_less_likely(observed: Evidence, params: PolicyParams, more: int) -> None:
    larger = with_signals(observed, refresh_gain=raised(observed.scores.refresh_gain, more))
    assert make_decision(larger, params).action.refreshes >= make_decision(observed, params).action.refreshes


@law
@given(evidence_records(all_measured=True), PRICES, st.sampled_from(["model_gap", "excess_loss"]), st.integers(0, 100))
def test_a_wider_interval_never_makes_a_retrain_more_likely(
    observed: Evidence, params: PolicyParams, signal: str, by: int
) -> None:
    less_sure = with_signals(observed, **{signal: widened(signal_of(observed, signal), by)})
    for edge in on_the_edge(params, observed, less_sure):
        assert make_decision(less_sure, edge).action.retrains <= make_decision(observed, edge).action.retrains


@law
@given(CERTAIN_EVIDENCE, PRICES, st.integers(0, 100))
def test_a_wider_interval_of_the_refresh_gain_makes_no_action_more_likely(
    observed: Evidence, params: PolicyParams, by: int
) -> None:
    less_sure = with_signals(observed, refresh_gain=widened(observed.scores.refresh_gain, by))
    for edge in on_the_edge(params, observed, less_sure):
        before, after = make_decision(observed, edge).action, make_decision(less_sure, edge).action
        assert after.refreshes <= before.refreshes
        assert after.retrains == before.retrains


@law
@given(evidence_records(), PRICES, st.sampled_from([0.5, 2.0, 3.0, 10.0]), st.sampled_from([0.99, 1.01]))
def test_scaling_costs_and_price_together_changes_no_action(
    observed: Evidence, params: PolicyParams, factor: float, beside: float
) -> None:
    # A step that takes no time does not scale; and exactly at the threshold, rounding would decide.
    observed = with_signals(
        observed,
        costs=observed.limits.costs.model_copy(update={"prove_seconds": observed.limits.costs.prove_seconds + 1}),
    )
    for edge in on_the_edge(params, observed):
        price = beside * edge.points_per_hour
        before = make_decision(observed, PARAMS.model_copy(update={"points_per_hour": price}))
        scaled = with_signals(observed, costs=times(observed.limits.costs, factor))
        assert (
            make_decision(scaled, PARAMS.model_copy(update={"points_per_hour": price / factor})).action == before.action
        )


def test_a_model_trained_on_deleted_documents_is_reported_and_not_retrained_for_that() -> None:
    observed = evidence(delta=UNMOVED, changes=UNCHANGED, adapter_is_current=True, deleted_training_documents=("a.md",))
    decision = make_decision(observed, PARAMS.model_copy(update={"points_per_hour": 0.0}))
    assert decision.action == Action.NOTHING
    assert values_of(decision.reasons, ReasonCode.TRAINED_ON_DELETED) == {"documents": 1}


@law
@given(CERTAIN_EVIDENCE, PRICES, RETRAINS, st.sampled_from(["no gain", "rejected", "rolled back"]))
def test_a_retrain_without_gain_never_makes_the_next_more_likely(
    observed: Evidence, params: PolicyParams, action: str, how: str
) -> None:
    recovered = 0.0 if how == "no gain" else 20.0
    accepted, undone = how != "rejected", how == "rolled back"
    failed = with_decision(observed, past(action, recovered_points=recovered, accepted=accepted, rolled_back=undone))
    for edge in on_the_edge(params, observed, failed):
        assert make_decision(failed, edge).action.retrains <= make_decision(observed, edge).action.retrains


@law
@given(CERTAIN_EVIDENCE, PRICES, RETRAINS, st.sampled_from([20.0, 45.0]))
def test_a_retrain_with_the_full_gain_never_makes_the_next_less_likely(
    observed: Evidence, params: PolicyParams, action: str, recovered: float
) -> None:
    worked = with_decision(observed, past(action, recovered_points=recovered))
    for edge in on_the_edge(params, observed, worked):
        assert make_decision(worked, edge).action.retrains >= make_decision(observed, edge).action.retrains


@law
@given(evidence_records(rejectable=SINGLE_ACTIONS), st.integers(0, 500), st.integers(0, 500))
def test_a_higher_price_never_makes_an_action_more_likely(observed: Evidence, price: int, more: int) -> None:
    cheap = make_decision(observed, PARAMS.model_copy(update={"points_per_hour": price})).action
    expensive = make_decision(observed, PARAMS.model_copy(update={"points_per_hour": price + more})).action
    assert expensive.refreshes <= cheap.refreshes
    assert expensive.retrains <= cheap.retrains


@law
@given(evidence_records(rejectable=SINGLE_ACTIONS), PRICES, COSTS)
def test_higher_costs_never_make_an_action_more_likely(observed: Evidence, params: PolicyParams, more: Costs) -> None:
    steps = ("refresh_seconds", "retrain_seconds", "prove_seconds")
    expensive = more.model_copy(
        update={step: getattr(more, step) + getattr(observed.limits.costs, step) for step in steps}
    )
    before, after = (
        make_decision(observed, params).action,
        make_decision(with_signals(observed, costs=expensive), params).action,
    )
    assert after.refreshes <= before.refreshes
    assert after.retrains <= before.retrains


RETRAIN_ACTIONS = ("RETRAIN", BOTH, "REBUILD+RETRAIN")


@law
@given(evidence_records(rejectable=RETRAIN_ACTIONS), st.integers(1, 3))
def test_deleted_documents_are_removed_at_any_price(observed: Evidence, deleted: int) -> None:
    renamed = len(observed.data.changes.renamed)
    moved = delta(new=0, removed=0, documents_deleted=deleted + renamed, documents_renamed=renamed)
    decision = make_decision(
        with_signals(observed, delta=moved, live_release="1"), PARAMS.model_copy(update={"points_per_hour": 1e9})
    )
    assert decision.action.refreshes
    assert refresh_reasons(decision)[0] == Reason.of(ReasonCode.DELETED_IN_INDEX, documents=deleted)


@law
@given(evidence_records(rejectable=RETRAIN_ACTIONS))
def test_an_index_of_another_embedder_is_rebuilt_at_any_price(observed: Evidence) -> None:
    decision = make_decision(
        with_signals(observed, delta=rebuild_evidence().data.delta, live_release="1"),
        PARAMS.model_copy(update={"points_per_hour": 1e9}),
    )
    assert decision.action.rebuilds
    assert refresh_reasons(decision)[0] == Reason.of(ReasonCode.REBUILD_NEEDED, why=REBUILD)


@law
@given(evidence_records(), PRICES)
def test_an_index_is_rebuilt_only_if_its_settings_changed(observed: Evidence, params: PolicyParams) -> None:
    assert make_decision(observed, params).action.rebuilds <= bool(observed.data.delta.rebuild)


@law
@given(evidence_records(), PRICES)
def test_pending_deletions_turn_nothing_into_hold_and_change_nothing_else(
    observed: Evidence, params: PolicyParams
) -> None:
    before, after = (
        make_decision(observed, params),
        make_decision(with_signals(observed, pending_deletions=PENDING), params),
    )
    waits = before.action == Action.NOTHING
    assert after.action == (Action.HOLD if waits else before.action)
    assert after.proposed == (Action.REFRESH if waits else None)
    assert after.options == before.options
    added = [reason for reason in after.reasons if reason not in before.reasons]
    assert added[0] == Reason.of(ReasonCode.DELETIONS_PENDING, documents=2)
    assert codes(added[1:]) == ([ReasonCode.APPROVAL_ONLY] if waits else [])


@law
@given(evidence_records(), PRICES)
def test_quarantined_documents_are_reported_and_do_not_change_the_decision(
    observed: Evidence, params: PolicyParams
) -> None:
    before = make_decision(observed, params)
    after = make_decision(with_signals(observed, quarantined={QUARANTINED.document: QUARANTINED.reason}), params)
    assert (after.action, after.options) == (before.action, before.options)
    [added] = [reason for reason in after.reasons if reason not in before.reasons]
    assert added == Reason.of(ReasonCode.QUARANTINED, documents=1)


@law
@given(evidence_records(), PRICES)
def test_filtered_examples_are_reported_and_do_not_change_the_decision(
    observed: Evidence, params: PolicyParams
) -> None:
    before, after = (
        make_decision(observed, params),
        make_decision(with_signals(observed, filtered={"leak": 2, "duplicate": 1}), params),
    )
    assert (after.action, after.options) == (before.action, before.options)
    [added] = [reason for reason in after.reasons if reason not in before.reasons]
    assert added == Reason.of(ReasonCode.FILTERED, lines=3)


@law
@given(evidence_records(rejectable=RETRAIN_ACTIONS))
def test_without_a_live_release_an_index_is_built_at_any_price(observed: Evidence) -> None:
    decision = make_decision(
        with_signals(observed, live_release=None), PARAMS.model_copy(update={"points_per_hour": 1e9})
    )
    assert decision.action.refreshes
    assert refresh_reasons(decision)[0].code is ReasonCode.NO_INDEX


@law
@given(evidence_records())
def test_a_current_index_is_not_refreshed(observed: Evidence) -> None:
    still = with_signals(observed, live_release="1", delta=UNMOVED)
    assert not make_decision(still, PARAMS.model_copy(update={"points_per_hour": 0})).action.refreshes


@law
@given(evidence_records())
def test_an_unmeasured_model_gap_gives_no_retrain(observed: Evidence) -> None:
    unmeasured = with_signals(observed, model_gap=UNMEASURED)
    assert not make_decision(unmeasured, PARAMS.model_copy(update={"points_per_hour": 0})).action.retrains


@law
@given(evidence_records())
def test_evidence_without_measurements_still_gives_a_decision(observed: Evidence) -> None:
    unmeasured = with_signals(observed, **dict.fromkeys(MEASURES, UNMEASURED), new_examples=None, past=())
    decision = make_decision(unmeasured, PARAMS)
    assert not decision.action.retrains
    assert values_of(retrain_reasons(decision), ReasonCode.MODEL_GAP_UNMEASURED) == {"why": "no questions"}
    assert "nan" not in decision.model_dump_json().lower()


@law
@given(evidence_records(), PRICES, st.sets(st.sampled_from(MEASURES)), st.sets(st.sampled_from(MEASURES)))
def test_any_missing_signals_give_a_decision_that_lists_the_requested_ones(
    observed: Evidence, params: PolicyParams, missing: set[str], unasked: set[str]
) -> None:
    measures = {field: measure(0.2, 0.1, 0.3) for field in MEASURES}
    measures |= {field: Measure.unmeasured(f"{field} went wrong") for field in missing}
    measures |= dict.fromkeys(unasked, NOT_REQUESTED)
    decision = make_decision(with_signals(observed, **measures, new_examples=None, past=()), params)
    listed = {*LISTED, "changed_sentence_share"} & (missing - unasked)
    assert decision.unmeasured_signals == {field: f"{field} went wrong" for field in listed}
    assert all(decision_sentences(decision))


@pytest.mark.parametrize("field", [*LISTED, "changed_sentence_share"])
def test_a_requested_signal_that_was_not_measured_is_listed_with_its_reason(field: str) -> None:
    decision = make_decision(evidence(**{field: Measure.unmeasured("the disk was full")}), PARAMS)
    assert decision.unmeasured_signals == {field: "the disk was full"}


def test_measured_and_unrequested_signals_are_not_listed_as_unmeasured() -> None:
    assert make_decision(evidence(), PARAMS).unmeasured_signals == {}


@law
@given(evidence_records(), PRICES, st.sampled_from([None, 2.5]))
def test_costs_gains_and_rates_of_the_options_add_up(
    observed: Evidence, params: PolicyParams, price: float | None
) -> None:
    observed = with_signals(observed, costs=observed.limits.costs.model_copy(update={"price_per_hour": price}))
    nothing, refresh, retrain, both = make_decision(observed, params).options
    assert (nothing.cost_seconds, nothing.gain_points) == (0, 0)
    steps, prove = (
        observed.limits.costs.refresh_seconds + observed.limits.costs.retrain_seconds,
        observed.limits.costs.prove_seconds,
    )
    assert refresh.cost_seconds == observed.limits.costs.refresh_seconds + prove
    assert retrain.cost_seconds == observed.limits.costs.retrain_seconds + prove
    assert both.cost_seconds == steps + prove
    assert both.gain_points == pytest.approx((refresh.gain_points or 0) + (retrain.gain_points or 0), abs=0.011)
    for option in (refresh, retrain, both):
        assert option.gain_points_low is not None
        assert 0 <= option.gain_points_low <= (option.gain_points or 0) <= (option.gain_points_high or 0)
        # Gains are given with two decimals, and so a small cost makes the rate coarse.
        an_hour = params.gain_lasts_cycles * 3600 / max(0.001, option.cost_seconds)
        assert option.points_per_hour == pytest.approx(option.gain_points_low * an_hour, abs=0.06 + 0.0051 * an_hour)
        assert option.cost_money == (
            None if price is None else round(price * forecast_seconds(option.action, observed.limits) / 3600, 4)
        )


@law
@given(evidence_records(), PRICES)
def test_the_explanation_covers_both_components(observed: Evidence, params: PolicyParams) -> None:
    decision = make_decision(observed, params)
    _, refresh, retrain, _ = decision.options
    text = " ".join(decision_sentences(decision))
    for option in (refresh, retrain):
        assert f"{option.action} is {'' if option.worth_it else 'not '}called for: {option_text(option)}" in text
    assert set(reason_sentences(decision.reasons)) <= set(decision_sentences(decision))
    assert ("It should take about" in text) is decision.action.builds
    assert "None" not in text + " ".join(counterfactual_sentences(decision))


# --- reasons and counterfactuals in typical cases --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signals", "action"),
    [
        ({}, Action.REFRESH),
        ({"model_gap": measure(0.3)}, Action.REFRESH.with_retrain()),
        ({"delta": UNMOVED, "changes": UNCHANGED, "model_gap": measure(0.3)}, Action.RETRAIN),
        ({"delta": UNMOVED, "changes": UNCHANGED}, Action.NOTHING),
        ({"refresh_gain": UNMEASURED}, Action.REFRESH),
        ({"refresh_gain": UNMEASURED, "score_gold": measure(0.0)}, Action.NOTHING),
        ({"model_gap": measure(0.3), "rejected_actions": {"RETRAIN": "no"}}, Action.REFRESH),
        ({"model_gap": measure(0.3), "rejected_actions": {"REFRESH": "no"}}, Action.RETRAIN),
        ({"model_gap": measure(0.3), "rejected_actions": {"REFRESH": "no", "RETRAIN": "no"}}, Action.NOTHING),
        ({"model_gap": measure(0.3), "rejected_actions": {BOTH: "no"}}, Action.REFRESH),
        ({"rejected_actions": {BOTH: "no"}}, Action.REFRESH),
        ({"changes": DELETION, "rejected_actions": {"REFRESH": "no"}}, Action.NOTHING),
        ({"refresh_gain": UNMEASURED, "changed_sentence_share": measure(0.0)}, Action.NOTHING),
        ({"refresh_gain": UNMEASURED, "changed_sentence_share": measure(0.1)}, Action.REFRESH),
        ({"refresh_gain": measure(0.1), "changed_sentence_share": measure(0.0)}, Action.REFRESH),
        ({"model_gap": measure(0.3), "new_examples": 0}, Action.REFRESH),
        ({"model_gap": measure(0.3), "excess_loss": measure(0.0)}, Action.REFRESH),
        ({"model_gap": measure(0.3), "excess_loss": measure(0.5), "new_examples": 24}, Action.REFRESH.with_retrain()),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_component_is_updated_when_it_is_out_of_date(signals: dict[str, Any], action: Action) -> None:
    assert make_decision(evidence(**signals), PARAMS).action == action


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"model_gap": measure(0.0)}, ReasonCode.MODEL_AT_TARGET),
        ({"model_gap": measure(-0.05)}, ReasonCode.MODEL_AT_TARGET),
        ({"model_gap": measure(0.0), "score_gold": UNMEASURED}, ReasonCode.MODEL_AT_TARGET),
        ({"model_gap": measure(0.3), "adapter_is_current": True}, ReasonCode.SAME_ADAPTER),
        ({"model_gap": measure(0.3), "examples": 19}, ReasonCode.TOO_FEW_EXAMPLES),
        ({"model_gap": UNMEASURED}, ReasonCode.MODEL_GAP_UNMEASURED),
        (
            {"model_gap": measure(0.3), "rejected_actions": {"RETRAIN": "rolled back (too slow)"}},
            ReasonCode.REJECTED_BEFORE,
        ),
        ({"model_gap": measure(0.3, low=-0.01)}, ReasonCode.MODEL_BELOW_TARGET),
    ],
)
def test_a_retrain_without_expected_gain_is_not_chosen_and_has_a_reason(
    signals: dict[str, Any], code: ReasonCode
) -> None:
    decision = make_decision(evidence(**signals), PARAMS.model_copy(update={"points_per_hour": 0}))
    assert not decision.action.retrains
    assert retrain_reasons(decision)[0].code is code


def test_a_gap_with_a_negative_lower_bound_has_a_lower_bound_of_0() -> None:
    retrain = option_of(
        make_decision(evidence(model_gap=measure(0.3, low=-0.01)), PARAMS.model_copy(update={"points_per_hour": 0})),
        Action.RETRAIN,
    )
    assert (retrain.gain_points, retrain.gain_points_low, retrain.worth_it) == (15, 0, False)


def test_the_minimum_number_of_examples_is_enough() -> None:
    assert make_decision(evidence(model_gap=measure(0.3), examples=20, min_examples=20), PARAMS).action.retrains


def test_an_unmeasured_gain_is_estimated_from_the_share_of_new_chunks() -> None:
    decision = make_decision(evidence(refresh_gain=UNMEASURED, delta=delta(new=2, removed=1)), PARAMS)
    refresh = option_of(decision, Action.REFRESH)
    assert (refresh.gain_points, refresh.gain_points_low) == (15.2, 15.2)
    assert values_of(refresh.reasons, ReasonCode.CHANGED_CHUNKS) == {"new": 2, "chunks": 10, "deleted": 1}
    assert values_of(refresh.reasons, ReasonCode.GAIN_ESTIMATED)["by_chunks"] is True


@pytest.mark.parametrize(("measured", "expected"), [(0.05, 15.2), (0.5, 40)], ids=["share", "questions"])
def test_the_gain_of_a_refresh_is_measured_and_at_least_the_share_of_new_chunks(
    measured: float, expected: float
) -> None:
    decision = make_decision(evidence(refresh_gain=measure(measured), delta=delta(new=2)), PARAMS)
    refresh = option_of(decision, Action.REFRESH)
    assert (refresh.gain_points, refresh.gain_points_low) == (expected, expected)


@pytest.mark.parametrize(
    ("signals", "action", "points", "low", "buys"),
    [
        ({"refresh_gain": measure(0.5, low=0.25)}, Action.REFRESH, 40, 20, 6000),
        ({"model_gap": measure(0.5, low=0.25)}, Action.RETRAIN, 25, 12.5, 3750),
    ],
    ids=["refresh", "retrain"],
)
def test_the_lower_bound_of_a_gain_decides(
    signals: dict[str, Any], action: Action, points: float, low: float, buys: float
) -> None:
    costs = Costs(refresh_seconds=26, retrain_seconds=26, prove_seconds=10, source="prior")
    weighed = option_of(make_decision(evidence(costs=costs, **signals), PARAMS), action)
    assert (weighed.gain_points, weighed.gain_points_low, weighed.points_per_hour) == (points, low, buys)
    for price, worth_it in ((buys, True), (buys + 1, False)):
        decision = make_decision(evidence(costs=costs, **signals), PARAMS.model_copy(update={"points_per_hour": price}))
        assert option_of(decision, action).worth_it is worth_it


def test_chunks_that_only_moved_have_their_own_reason() -> None:
    decision = make_decision(evidence(changes=MOVED, delta=delta(new=0, removed=0)), PARAMS)
    assert refresh_reasons(decision)[0].code is ReasonCode.MOVED_CHUNKS


def test_an_action_that_gains_exactly_the_price_is_chosen() -> None:
    bargain = {
        "refresh_gain": measure(0.25),
        "costs": Costs(refresh_seconds=26, retrain_seconds=9, prove_seconds=10, source="prior"),
    }
    assert action_at(6000, **bargain) == Action.REFRESH
    assert action_at(6000.01, **bargain) == Action.NOTHING


@law
@given(st.integers(1, 100), st.integers(1, 20_000))
def test_the_price_in_the_counterfactual_changes_the_decision(percent: int, seconds: int) -> None:
    signals = {
        "delta": UNMOVED,
        "changes": UNCHANGED,
        "model_gap": measure(percent / 100),
        "costs": Costs(refresh_seconds=1, retrain_seconds=seconds, prove_seconds=1, source="prior"),
    }
    decision = make_decision(evidence(**signals), PARAMS.model_copy(update={"points_per_hour": 0}))
    price = float(counterfactual(decision, Action.RETRAIN, ReasonCode.IF_PRICE_ABOVE)["points_per_hour"] or 0)
    assert action_at(price + 0.1, **signals) == Action.NOTHING
    assert action_at(max(0.0, price - 0.1), **signals) == Action.RETRAIN


@law
@given(st.integers(0, 20), st.integers(1, 5000), st.integers(100, 5000))
def test_the_gain_in_the_counterfactual_changes_the_decision(percent: int, seconds: int, price: int) -> None:
    signals: dict[str, Any] = {
        "delta": UNMOVED,
        "changes": UNCHANGED,
        "costs": Costs(refresh_seconds=1, retrain_seconds=seconds, prove_seconds=1, source="prior"),
    }
    decision = make_decision(
        evidence(model_gap=measure(percent / 100), **signals), PARAMS.model_copy(update={"points_per_hour": price})
    )
    assume(decision.action == Action.NOTHING)
    values = counterfactual(decision, Action.RETRAIN, ReasonCode.IF_GAIN_AT_LEAST) if percent else None
    if values is None:
        return
    # Half of the gap is what a first retrain is expected to gain; both are rounded to one decimal.
    assert float(values["low"] or 0) == pytest.approx(percent / 2, abs=0.11)
    assert action_at(price, model_gap=measure((float(values["needed"] or 0) + 0.1) / 50), **signals) == Action.RETRAIN


def test_a_rejected_action_is_reconsidered_on_other_data() -> None:
    decision = make_decision(evidence(rejected_actions={"REFRESH": "the gate rejected it"}), PARAMS)
    refresh = option_of(decision, Action.REFRESH)
    assert refresh.counterfactual == Reason.of(ReasonCode.IF_OTHER_DATA)
    assert refresh.reasons[0] == Reason.of(ReasonCode.REJECTED_BEFORE, why="the gate rejected it")


def test_stale_questions_are_counted() -> None:
    decision = make_decision(evidence(stale_questions=("q1", "q2")), PARAMS)
    assert decision.reasons == (Reason.of(ReasonCode.STALE_QUESTIONS, questions=2),)


@pytest.mark.parametrize(
    ("changes", "code"), [(UNCHANGED, ReasonCode.NOTHING_CHANGED), (DELETION, ReasonCode.KEEPS_LIVE)]
)
def test_the_option_nothing_has_a_reason_too(changes: ChangeSet, code: ReasonCode) -> None:
    nothing = option_of(make_decision(evidence(changes=changes), PARAMS), Action.NOTHING)
    assert (codes(nothing.reasons), nothing.worth_it, nothing.points_per_hour) == ([code], False, None)


def test_after_a_rejected_joint_action_the_refresh_goes_first_and_the_retrain_waits() -> None:
    decision = make_decision(
        evidence(model_gap=measure(0.3), rejected_actions={"REFRESH+RETRAIN": "the gate"}), PolicyParams()
    )
    assert decision.action == Action.REFRESH
    refresh, retrain, both = decision.options[1:]
    assert (refresh.worth_it, retrain.worth_it, both.worth_it) == (True, False, False)
    assert retrain.reasons[0] == Reason.of(ReasonCode.REJECTED_WITH_REFRESH, why="the gate")
    assert retrain.counterfactual == Reason.of(ReasonCode.IF_OTHER_DATA)


def test_no_model_is_released_without_an_index() -> None:
    rejected_actions = {"REFRESH": "the gate", "REFRESH+RETRAIN": "the gate"}
    decision = make_decision(
        evidence(live_release=None, model_gap=measure(0.5), rejected_actions=rejected_actions), PolicyParams()
    )
    assert decision.action == Action.NOTHING
    assert retrain_reasons(decision)[0].code is ReasonCode.INDEX_FIRST


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"model_gap": measure(0.3), "adapter_is_current": True}, ReasonCode.IF_OTHER_EXAMPLES),
        ({"model_gap": measure(0.3), "examples": 19}, ReasonCode.IF_EXAMPLES),
    ],
)
def test_what_blocks_a_retrain_is_its_counterfactual(signals: dict[str, Any], code: ReasonCode) -> None:
    assert counterfactual(make_decision(evidence(**signals), PolicyParams()), Action.RETRAIN, code) is not None


def test_a_forced_refresh_has_no_price_in_its_counterfactual() -> None:
    for signals in (
        {"live_release": None},
        {"delta": delta(documents_deleted=1)},
        {"delta": rebuild_evidence().data.delta},
    ):
        decision = make_decision(evidence(**signals), PARAMS.model_copy(update={"points_per_hour": 1e9}))
        assert decision.action.refreshes
        assert counterfactual(decision, decision.action, ReasonCode.IF_REJECTED_BEFORE) == {}


def test_the_needed_gain_is_above_the_gain_after_rounding() -> None:
    costs = Costs(refresh_seconds=1, retrain_seconds=23, prove_seconds=1, source="prior")
    decision = make_decision(
        evidence(model_gap=measure(0.002), costs=costs), PARAMS.model_copy(update={"points_per_hour": 50})
    )
    values = counterfactual(decision, Action.RETRAIN, ReasonCode.IF_GAIN_AT_LEAST)
    assert values == {"low": 0.1, "needed": 0.2}


# --- another embedder ------------------------------------------------------------------------------------------------


def test_a_rebuild_has_a_cost_forecast() -> None:
    decision = make_decision(rebuild_evidence(), PARAMS)
    rebuild = option_of(decision, Action.REBUILD)
    assert decision.action == Action.REBUILD
    assert values_of(rebuild.reasons, ReasonCode.REBUILT_CHUNKS) == {"chunks": 10, "to_embed": 10}
    assert rebuild.cost_seconds == 30


def test_a_rebuild_and_a_retrain_go_together() -> None:
    decision = make_decision(rebuild_evidence(model_gap=measure(0.6), score_gold=measure(0.35)), PARAMS)
    assert decision.action == Action.REBUILD.with_retrain()
    assert option_of(decision, Action.REBUILD.with_retrain()).cost_seconds == 330


def test_a_rejected_rebuild_is_reconsidered_on_other_data_or_params() -> None:
    decision = make_decision(rebuild_evidence(rejected_actions={"REBUILD": "the gate rejected it"}), PARAMS)
    assert decision.action == Action.NOTHING
    assert counterfactual(decision, Action.REBUILD, ReasonCode.IF_OTHER_DATA) == {}


def test_after_a_rejected_rebuild_with_retrain_the_rebuild_goes_first() -> None:
    signals = {"model_gap": measure(0.6), "score_gold": measure(0.35)}
    decision = make_decision(
        rebuild_evidence(rejected_actions={"REBUILD+RETRAIN": "the gate rejected it"}, **signals), PARAMS
    )
    assert decision.action == Action.REBUILD
    rejected = Reason.of(ReasonCode.REJECTED_WITH_REFRESH, why="the gate rejected it")
    assert retrain_reasons(decision)[0] == rejected


def test_before_the_first_release_there_is_nothing_to_rebuild() -> None:
    assert make_decision(evidence(live_release=None), PARAMS).action == Action.REFRESH


# --- renames and deletions -------------------------------------------------------------------------------------------

RENAMED = {
    "changes": MOVED,
    "delta": delta(new=0, removed=0, deleted=1, documents_deleted=1, documents_renamed=1),
    "changed_sentence_share": measure(0.0),
    "refresh_gain": UNMEASURED,
}


def test_a_rename_alone_needs_no_action() -> None:
    decision = make_decision(evidence(**RENAMED), PARAMS.model_copy(update={"points_per_hour": 0}))
    assert decision.action == Action.NOTHING
    assert refresh_reasons(decision)[0].code is ReasonCode.MOVED_CHUNKS


def test_a_rename_is_indexed_if_the_params_require_it() -> None:
    decision = make_decision(evidence(**RENAMED), PolicyParams(points_per_hour=1e9, refresh_on_rename=True))
    assert decision.action == Action.REFRESH
    assert refresh_reasons(decision)[0] == Reason.of(ReasonCode.RENAMED_IN_INDEX, documents=1)


def test_a_deletion_next_to_a_rename_is_removed_from_the_index() -> None:
    both = MOVED.model_copy(update={"removed": ("d.md",)})
    moved = delta(new=0, removed=1, deleted=2, documents_deleted=2, documents_renamed=1)
    decision = make_decision(
        evidence(**RENAMED | {"changes": both, "delta": moved}), PARAMS.model_copy(update={"points_per_hour": 1e9})
    )
    assert decision.action == Action.REFRESH
    assert refresh_reasons(decision)[0] == Reason.of(ReasonCode.DELETED_IN_INDEX, documents=1)


def test_a_deletion_is_removed_although_a_document_without_rows_was_renamed() -> None:
    # An unreadable document is in the snapshot and so in the renames, but never was in the index.
    both = ChangeSet(before="s0", after="s1", renamed=(Rename(before="bad.pdf", after="old.pdf"),), removed=("d.md",))
    deleted = delta(new=0, removed=1, upserted=0, deleted=1, documents_deleted=1)
    quarantined = {"old.pdf": "is scanned"}
    decision = make_decision(
        evidence(changes=both, delta=deleted, quarantined=quarantined),
        PARAMS.model_copy(update={"points_per_hour": 1e9}),
    )
    assert decision.action == Action.REFRESH


# --- the limits ------------------------------------------------------------------------------------------------------

LIMITS = st.builds(
    PolicyParams,
    points_per_hour=st.integers(0, 100),
    budget_hours_per_week=st.sampled_from([None, 0.1, 0.5, 1.0]),
    cool_down_hours=st.sampled_from([0.0, 24.0]),
)
MODEL_GAP = {"model_gap": measure(0.3)}


@law
@given(
    evidence_records(rejectable=SINGLE_ACTIONS),
    LIMITS,
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([None, 0, 23, 24]),
)
def test_a_limit_never_makes_an_action_more_likely(
    observed: Evidence, params: PolicyParams, spent: float, since: int | None
) -> None:
    observed = with_signals(observed, spent_hours=spent, hours_since_retrain=since)
    unlimited = params.model_copy(update={"budget_hours_per_week": None, "cool_down_hours": 0.0})
    free = make_decision(observed, unlimited).action
    limited = make_decision(observed, params).action
    assert limited.refreshes <= free.refreshes
    assert limited.retrains <= free.retrains


@pytest.mark.parametrize(
    ("budget", "spent", "action"),
    [
        (None, 1e6, Action.REFRESH.with_retrain()),
        (1.0, 0.5, Action.REFRESH.with_retrain()),
        (1.0, 0.95, Action.REFRESH),
        (1.0, 1.0, Action.NOTHING),
    ],
)
def test_an_action_above_the_weekly_budget_is_not_chosen(budget: float | None, spent: float, action: Action) -> None:
    decision = make_decision(evidence(**MODEL_GAP, spent_hours=spent), PolicyParams(budget_hours_per_week=budget))
    assert decision.action == action
    if_budget = [option for option in decision.options if option.counterfactual == Reason.of(ReasonCode.IF_BUDGET_LEFT)]
    assert len(if_budget) == 2 - action.refreshes - action.retrains


def test_if_both_components_exceed_the_budget_only_the_cheaper_one_is_updated() -> None:
    # 30 s and 320 s each fit into 324 s; both with one evaluation take 330 s.
    decision = make_decision(evidence(**MODEL_GAP), PolicyParams(budget_hours_per_week=0.09))
    assert decision.action == Action.REFRESH
    assert counterfactual(decision, Action.RETRAIN, ReasonCode.IF_BUDGET_LEFT) == {}


def test_deleted_documents_are_removed_although_the_budget_is_spent() -> None:
    deleted = evidence(changes=DELETION, delta=delta(documents_deleted=1), spent_hours=9.0)
    assert make_decision(deleted, PolicyParams(budget_hours_per_week=1.0)).action == Action.REFRESH


@pytest.mark.parametrize(("since", "retrains"), [(None, True), (0, False), (23, False), (24, True)])
def test_a_retrain_waits_for_the_cool_down(since: int | None, retrains: bool) -> None:
    decision = make_decision(evidence(**MODEL_GAP, hours_since_retrain=since), PolicyParams(cool_down_hours=24))
    assert decision.action == (Action.REFRESH.with_retrain() if retrains else Action.REFRESH)
    cooling = option_of(decision, Action.RETRAIN).counterfactual == Reason.of(ReasonCode.IF_COOLED_DOWN)
    assert cooling is not retrains


# --- approval by a person --------------------------------------------------------------------------------------------


@law
@given(evidence_records(), PRICES, st.integers(0, 3000))
def test_an_action_above_the_cost_limit_waits_for_approval(
    observed: Evidence, params: PolicyParams, limit: int
) -> None:
    free = make_decision(observed, params)
    limited = params.model_copy(update={"approve_above_seconds": float(limit)})
    decision = make_decision(observed, limited)
    if decision.action == free.action:
        assert decision.proposed is None
    else:
        assert decision.action == Action.HOLD or (decision.action.refreshes and not decision.action.retrains)
        assert decision.proposed == free.action
        assert decision.reasons[-1].code is ReasonCode.OVER_COST_LIMIT
    assert not decision.action.builds or forecast_seconds(decision.action, observed.limits) <= limit
    yes = make_decision(with_signals(observed, approved_actions=(free.action,)), limited)
    assert (yes.action, yes.proposed) == (free.action, None)


def test_nothing_is_built_while_an_action_waits_for_approval() -> None:
    decision = make_decision(evidence(), PolicyParams(approve_above_seconds=29))
    assert (decision.action, decision.proposed) == (Action.HOLD, Action.REFRESH)
    assert not decision.action.builds
    values = {"action": "REFRESH", "seconds": 30.0, "limit": 29.0, "meanwhile": None}
    assert decision.reasons[-1] == Reason.of(ReasonCode.OVER_COST_LIMIT, **values)


def test_the_cheaper_component_goes_ahead_while_the_other_waits_for_approval() -> None:
    decision = make_decision(evidence(**MODEL_GAP), PolicyParams(approve_above_seconds=30))
    assert (decision.action, decision.proposed) == (Action.REFRESH, Action.REFRESH.with_retrain())
    assert decision.reasons[-1].values["meanwhile"] == "REFRESH"


def test_an_approval_covers_no_other_action() -> None:
    observed = evidence(**MODEL_GAP, delta=UNMOVED, changes=UNCHANGED, approved_actions=("REFRESH", BOTH))
    decision = make_decision(observed, PolicyParams(approve_above_seconds=30))
    assert (decision.action, decision.proposed) == (Action.HOLD, Action.RETRAIN)


def test_an_approved_component_goes_ahead_although_another_is_wanted_now() -> None:
    decision = make_decision(
        evidence(**MODEL_GAP, approved_actions=("REFRESH",)), PolicyParams(approve_above_seconds=5)
    )
    assert (decision.action, decision.proposed) == (Action.REFRESH, Action.REFRESH.with_retrain())


@law
@given(evidence_records(), PRICES)
def test_in_suggest_mode_nothing_is_built_without_approval(observed: Evidence, params: PolicyParams) -> None:
    free = make_decision(with_signals(observed, approved_actions=()), params)
    careful = params.model_copy(update={"mode": "suggest"})
    decision = make_decision(with_signals(observed, approved_actions=()), careful)
    assert decision.action == (Action.HOLD if free.action.builds else free.action)
    assert decision.proposed == (free.action if free.action.builds else free.proposed)
    assert decision.options == free.options
    yes = make_decision(with_signals(observed, approved_actions=(free.action,)), careful)
    assert yes.action == free.action


def test_in_suggest_mode_an_approved_component_goes_ahead() -> None:
    decision = make_decision(evidence(**MODEL_GAP, approved_actions=("REFRESH",)), PolicyParams(mode="suggest"))
    assert (decision.action, decision.proposed) == (Action.REFRESH, Action.REFRESH.with_retrain())
    assert decision.reasons[-1] == Reason.of(ReasonCode.SUGGEST_MODE, action=BOTH, meanwhile="REFRESH")


def test_declined_deletions_are_not_proposed_again() -> None:
    signals = {
        "pending_deletions": PENDING,
        "deletions_rejected_reason": "a mistake",
        "delta": UNMOVED,
        "refresh_gain": measure(0.0),
    }
    decision = make_decision(evidence(**signals), PARAMS)
    assert (decision.action, decision.proposed) == (Action.NOTHING, None)
    assert decision.reasons == (Reason.of(ReasonCode.DELETIONS_DECLINED, documents=2, why="a mistake"),)


def test_a_declined_action_is_not_proposed() -> None:
    rejected_actions = {"REFRESH": "it was declined by a person: not before the fair"}
    decision = make_decision(evidence(rejected_actions=rejected_actions), PolicyParams(mode="suggest"))
    assert (decision.action, decision.proposed) == (Action.NOTHING, None)
    assert refresh_reasons(decision)[0].values == {"why": rejected_actions["REFRESH"]}


def test_pending_deletions_do_not_block_an_action() -> None:
    decision = make_decision(evidence(pending_deletions=PENDING), PARAMS)
    assert (decision.action, decision.proposed) == (Action.REFRESH, None)


# --- size of a signal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "little", "much"),
    [
        ("refresh_gain", measure(0.001), measure(0.5)),
        ("changed_sentence_share", measure(0.0), measure(0.5)),
        ("model_gap", measure(0.01), measure(0.5)),
        ("excess_loss", measure(0.01), measure(0.5)),
        ("new_examples", 1, 48),
    ],
)
def test_a_large_enough_signal_changes_the_decision(signal: str, little: object, much: object) -> None:
    still = {"changed_sentence_share": measure(0.0), "refresh_gain": UNMEASURED}
    needy = {} if signal in ("refresh_gain", "changed_sentence_share") else {"model_gap": measure(0.4)}
    before, after = (
        make_decision(evidence(**still | needy | {signal: value}), PARAMS).action for value in (little, much)
    )
    assert (before, after.builds) == (Action.NOTHING, True)


# --- golden questions out of play -------------------------------------------------------------------------------------


def losing(lost: int, in_play: int, **signals: Any) -> Evidence:
    ids = tuple(f"q{number}" for number in range(lost))
    return evidence(golden=GoldenLosses(in_play=in_play, lost=ids), **signals)


@pytest.mark.parametrize(
    ("lost", "in_play", "holds"),
    [(0, 0, False), (1, 5, False), (2, 20, False), (3, 20, True), (2, 19, True), (6, 60, False), (7, 60, True)],
)
def test_a_cycle_that_puts_over_a_tenth_of_the_golden_set_out_of_play_holds(
    lost: int, in_play: int, holds: bool
) -> None:
    decision = make_decision(losing(lost, in_play, facts_are_due=True, substantive_sentences=3), PARAMS)
    assert (decision.action == Action.HOLD, decision.proposed == Action.REFRESH) == (holds, holds)
    assert (ReasonCode.GOLDEN_LOST in codes(decision.reasons)) is holds


def test_deleted_documents_leave_the_index_while_golden_questions_wait_for_a_person() -> None:
    deleted: dict[str, Any] = {"delta": UNMOVED.model_copy(update={"deleted": 3, "documents_deleted": 2})}
    decision = make_decision(losing(5, 20, **deleted), PARAMS)
    assert (decision.action, decision.proposed) == (Action.REMOVE, Action.REFRESH)
    assert ReasonCode.GOLDEN_LOST in codes(decision.reasons)
    asking = PARAMS.model_copy(update={"mode": "suggest"})
    assert make_decision(losing(5, 20, **deleted), asking).action == Action.HOLD


def test_questions_out_of_play_hold_also_where_nothing_is_worth_it_until_a_person_answers() -> None:
    still: dict[str, Any] = {"delta": UNMOVED, "changes": UNCHANGED, "adapter_is_current": True}
    decision = make_decision(losing(5, 20, **still), PARAMS)
    assert (decision.action, decision.proposed) == (Action.HOLD, Action.REFRESH)
    assert ReasonCode.APPROVAL_ONLY not in codes(decision.reasons)
    for answer in ({"approved_actions": (Action.REFRESH,)}, {"rejected_actions": {Action.REFRESH: "no"}}):
        assert make_decision(losing(5, 20, **still, **answer), PARAMS).action == Action.NOTHING
    approved = losing(5, 20, facts_are_due=True, approved_actions=(Action.REFRESH,))
    assert make_decision(approved, PARAMS).action == Action.REFRESH


def test_the_gaps_of_a_joint_action_are_at_most_the_distance_to_the_target() -> None:
    gaps = {"index_gap": measure(0.55), "refresh_gain": measure(0.55), "model_gap": measure(0.4)}
    alone = make_decision(evidence(missing_answers=measure(0.0), **gaps), PARAMS)
    assert option_of(alone, Action.REFRESH.with_retrain()).gap_points == 95
    # The missing answers count as the index's gap and, since the model could give them, as the model's.
    overlapping = make_decision(evidence(missing_answers=measure(1.0), score_gold=measure(0.9), **gaps), PARAMS)
    refresh, retrain, both = (
        option_of(overlapping, action).gap_points or 0.0
        for action in (Action.REFRESH, Action.RETRAIN, Action.REFRESH.with_retrain())
    )
    assert refresh + retrain > 100
    assert both == max(95.0, refresh) <= 100
