"""Is the decision a pure function of the evidence, does it follow what was measured, and does it say why?"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.decide.policy import decide
from pipelines.params import PolicyParams
from pipelines.records import Action, ChangeSet, Costs, Decision, Evidence, Measure, Option, Rename, SetAside
from tests.factories import UNCHANGED, UNMOVED, delta, evidence, measure

law = settings(derandomize=True, deadline=None)
PARAMS = PolicyParams()
UNMEASURED = Measure.unmeasured("no questions")
BOTH = Action.REFRESH_RETRAIN.value
ASIDE = SetAside(document="b.pdf", digest="2" * 32, reason="is scanned", attempts=1, since="2030-01-01T00:00:00+00:00")
GONE = ChangeSet(before="s0", after="s1", removed=("b.md",))
MOVED = ChangeSet(before="s0", after="s1", renamed=(Rename(before="b.md", after="c.md"),))

PRICES = st.builds(PolicyParams, points_per_hour=st.integers(0, 500))
CHANGES = st.sampled_from([UNCHANGED, evidence().changes, GONE, MOVED, GONE.model_copy(update={"added": ("c.md",)})])
FEW = st.integers(0, 12)
REBUILD = "the index was built with another embedder or chunker (1, now 2)"
PLAIN = st.builds(
    delta, new=FEW, gone=FEW, upserted=st.integers(0, 1), deleted=st.integers(0, 1), documents_gone=st.integers(0, 2)
)
DELTAS = PLAIN | PLAIN.map(lambda one: one.model_copy(update={"rebuild": REBUILD}))
SECONDS = st.integers(0, 3000).map(float)
COSTS = st.builds(
    Costs, refresh_seconds=SECONDS, retrain_seconds=SECONDS, prove_seconds=SECONDS, source=st.just("prior")
)
ALONE = ("REFRESH", "RETRAIN", "REBUILD")
EVERY_WAY = (*ALONE, BOTH, "REBUILD+RETRAIN")
# Can a retrain bring anything? Mostly it can, so that both halves are weighed often.
TEACHABLE = {"examples": 100, "adapter_is_current": False}
TAUGHT = st.sampled_from([TEACHABLE] * 4 + [TEACHABLE | {"examples": 19}, TEACHABLE | {"adapter_is_current": True}])


def measured(lowest: int) -> st.SearchStrategy[Measure]:
    """Measures between lowest/100 and 1, with their intervals."""
    sorted_thrice = st.lists(st.integers(lowest, 100), min_size=3, max_size=3).map(sorted)
    return sorted_thrice.map(lambda three: measure(three[1] / 100, three[0] / 100, three[2] / 100))


@st.composite
def worlds(draw: st.DrawFn, refusable: tuple[str, ...] = EVERY_WAY, all_measured: bool = False) -> Evidence:
    """Evidence of every kind; where the score with the right passage was not measured, neither was the model's gap."""
    gold, gap, gain = draw(measured(0)), draw(measured(-20)), draw(measured(-20))
    if not all_measured:
        gold, gap, gain = (one if draw(st.integers(0, 4)) < 4 else UNMEASURED for one in (gold, gap, gain))
    refused = st.dictionaries(st.sampled_from(refusable), st.just("the gate refused it"))
    return evidence(
        live_release=draw(st.sampled_from(["1", None])),
        changes=draw(CHANGES),
        delta=draw(DELTAS),
        score_gold=gold,
        model_gap=UNMEASURED if gold.value is None else gap,
        refresh_gain=gain,
        stale_questions=draw(st.sampled_from([(), ("q1", "q2")])),
        refused=draw(refused),
        costs=draw(COSTS),
        **draw(TAUGHT),
    )


def but(world: Evidence, **signals: Any) -> Evidence:
    return world.model_copy(update=signals)


def lower(one: Measure, by: int) -> Measure:
    """The same value with a wider interval."""
    return one.model_copy(update={"low": (one.low or 0) - by / 100})


def raised(one: Measure, by: int) -> Measure:
    """The same interval, further up."""
    return one.model_copy(update={end: (getattr(one, end) or 0) + by / 100 for end in ("value", "low", "high")})


def option(decision: Decision, action: Action) -> Option:
    [found] = [one for one in decision.options if one.action is action]
    return found


def on_index(world: Evidence) -> Action:
    """What can be done about the index: where its rows cannot stay, all of them are made anew."""
    return Action.REBUILD if world.delta.rebuild else Action.REFRESH


def anew(**signals: Any) -> Evidence:
    """A live release whose rows were made under other settings."""
    return evidence(**({"delta": delta(to_embed=10).model_copy(update={"rebuild": REBUILD})} | signals))


def action_at(points_per_hour: float, **signals: Any) -> Action:
    return decide(evidence(**signals), PolicyParams(points_per_hour=points_per_hour)).action


# --- the laws ------------------------------------------------------------------------------------------------------


@law
@given(worlds(), PRICES)
def test_the_same_evidence_brings_the_same_decision_to_the_byte(world: Evidence, params: PolicyParams) -> None:
    before = world.model_dump_json()
    first = decide(world, params).model_dump_json()
    again = Evidence.model_validate_json(before)
    turned = but(again, refused=dict(reversed(again.refused.items())))
    assert decide(turned, params).model_dump_json() == first
    assert world.model_dump_json() == before
    assert Decision.model_validate_json(first).model_dump_json() == first


@law
@given(worlds(), PRICES)
def test_every_action_is_weighed_and_every_reason_given(world: Evidence, params: PolicyParams) -> None:
    decision, index = decide(world, params), on_index(world)
    joint = index.with_retrain()
    assert [one.action for one in decision.options] == [Action.NOTHING, index, Action.RETRAIN, joint]
    assert all(one.because for one in decision.options)
    assert [re.match(r"(?:Yes|No) to (\S+): \S", line)[1] for line in decision.reasons[:2]] == [index, "RETRAIN"]  # type: ignore[index]
    said = [bool(world.held), bool(world.set_aside), bool(world.stale_questions)]
    assert len(decision.reasons) == 2 + sum(said)
    assert [line.split()[0] for line in decision.would_change] == [index, "RETRAIN"]


@law
@given(worlds(refusable=ALONE), PRICES)
def test_the_action_is_what_is_worth_it(world: Evidence, params: PolicyParams) -> None:
    decision, index = decide(world, params), on_index(world)
    assert decision.action.refreshes is option(decision, index).worth_it
    assert decision.action.rebuilds is (option(decision, index).worth_it and index is Action.REBUILD)
    assert decision.action.retrains is option(decision, Action.RETRAIN).worth_it
    assert option(decision, index.with_retrain()).worth_it is decision.action.is_joint


@law
@given(worlds(), PRICES)
def test_what_was_refused_is_not_chosen_again(world: Evidence, params: PolicyParams) -> None:
    assert decide(world, params).action not in world.refused


@law
@given(worlds(all_measured=True), PRICES, st.integers(0, 100))
def test_a_larger_gain_never_makes_a_refresh_less_likely(world: Evidence, params: PolicyParams, more: int) -> None:
    larger = but(world, refresh_gain=raised(world.refresh_gain, more))
    assert decide(larger, params).action.refreshes >= decide(world, params).action.refreshes


@law
@given(worlds(all_measured=True), PRICES, st.integers(0, 100))
def test_a_larger_gap_never_makes_a_retrain_less_likely(world: Evidence, params: PolicyParams, more: int) -> None:
    larger = but(world, model_gap=raised(world.model_gap, more))
    assert decide(larger, params).action.retrains >= decide(world, params).action.retrains


@law
@given(worlds(all_measured=True), PRICES, st.integers(0, 100))
def test_a_wider_interval_never_makes_an_action_more_likely(world: Evidence, params: PolicyParams, by: int) -> None:
    surer = decide(world, params).action
    gain, gap = lower(world.refresh_gain, by), lower(world.model_gap, by)
    assert decide(but(world, refresh_gain=gain), params).action.refreshes <= surer.refreshes
    assert decide(but(world, model_gap=gap), params).action.retrains <= surer.retrains


@law
@given(worlds(refusable=ALONE), st.integers(0, 500), st.integers(0, 500))
def test_a_higher_price_never_makes_an_action_more_likely(world: Evidence, price: int, more: int) -> None:
    cheap = decide(world, PolicyParams(points_per_hour=price)).action
    dear = decide(world, PolicyParams(points_per_hour=price + more)).action
    assert dear.refreshes <= cheap.refreshes
    assert dear.retrains <= cheap.retrains


@law
@given(worlds(refusable=ALONE), PRICES, COSTS)
def test_dearer_steps_never_make_an_action_more_likely(world: Evidence, params: PolicyParams, more: Costs) -> None:
    steps = ("refresh_seconds", "retrain_seconds", "prove_seconds")
    dear = more.model_copy(update={step: getattr(more, step) + getattr(world.costs, step) for step in steps})
    before, after = decide(world, params).action, decide(but(world, costs=dear), params).action
    assert after.refreshes <= before.refreshes
    assert after.retrains <= before.retrains


UNTRIED = ("RETRAIN", BOTH, "REBUILD+RETRAIN")


@law
@given(worlds(refusable=UNTRIED), st.integers(1, 3))
def test_what_is_gone_is_taken_out_at_any_price(world: Evidence, gone: int) -> None:
    moved = delta(new=0, gone=0, documents_gone=gone)
    decision = decide(but(world, delta=moved, live_release="1"), PolicyParams(points_per_hour=1e9))
    assert decision.action.refreshes
    assert re.search(rf"{gone} documents? (is|are) gone from where the index has them", decision.reasons[0])


@law
@given(worlds(refusable=UNTRIED))
def test_rows_of_another_embedder_are_made_anew_at_any_price(world: Evidence) -> None:
    decision = decide(but(world, delta=anew().delta, live_release="1"), PolicyParams(points_per_hour=1e9))
    assert decision.action.rebuilds
    assert REBUILD in decision.reasons[0]


@law
@given(worlds(), PRICES)
def test_an_index_is_made_anew_only_where_its_rows_cannot_stay(world: Evidence, params: PolicyParams) -> None:
    assert decide(world, params).action.rebuilds <= bool(world.delta.rebuild)


@law
@given(worlds(), PRICES)
def test_what_waits_and_what_is_set_aside_is_told_and_decides_nothing(world: Evidence, params: PolicyParams) -> None:
    waiting = but(world, held={"a.md": "0" * 32, "b.md": "1" * 32}, set_aside={ASIDE.document: ASIDE.reason})
    before, after = decide(world, params), decide(waiting, params)
    assert (after.action, after.options, after.would_change) == (before.action, before.options, before.would_change)
    told = [line for line in after.reasons if line not in before.reasons]
    assert told[0].startswith("2 documents are gone, more than the guard allows at once")
    assert "ragtide approve" in told[0]
    assert "cannot be read and are set aside; `ragtide status` says why" in told[1]


@law
@given(worlds(refusable=UNTRIED))
def test_without_a_live_release_an_index_is_made_at_any_price(world: Evidence) -> None:
    decision = decide(but(world, live_release=None), PolicyParams(points_per_hour=1e9))
    assert decision.action.refreshes
    assert "there is no index yet" in decision.reasons[0]


@law
@given(worlds())
def test_an_index_that_holds_these_very_chunks_is_left_alone(world: Evidence) -> None:
    still = but(world, live_release="1", delta=UNMOVED)
    assert not decide(still, PolicyParams(points_per_hour=0)).action.refreshes


@law
@given(worlds())
def test_what_was_not_measured_earns_no_retrain(world: Evidence) -> None:
    blind = but(world, model_gap=UNMEASURED)
    assert not decide(blind, PolicyParams(points_per_hour=0)).action.retrains


@law
@given(worlds())
def test_nothing_measured_at_all_still_brings_a_decision(world: Evidence) -> None:
    signals = ("score_gold", "score_retrieved", "index_gap", "model_gap", "refresh_gain", "malformed_share")
    decision = decide(but(world, **dict.fromkeys(signals, UNMEASURED)), PARAMS)
    assert not decision.action.retrains
    assert "the model's gap was not measured: no questions" in decision.reasons[1]
    assert "nan" not in decision.model_dump_json().lower()


@law
@given(worlds(), PRICES)
def test_each_line_of_the_bill_adds_up(world: Evidence, params: PolicyParams) -> None:
    decision, costs = decide(world, params), world.costs
    nothing, refresh, retrain, both = decision.options
    assert (nothing.cost_seconds, nothing.gain_points) == (0, 0)
    assert refresh.cost_seconds == max(1, costs.refresh_seconds + costs.prove_seconds)
    assert retrain.cost_seconds == max(1, costs.retrain_seconds + costs.prove_seconds)
    assert both.cost_seconds == max(1, costs.refresh_seconds + costs.retrain_seconds + costs.prove_seconds)
    assert both.gain_points == pytest.approx((refresh.gain_points or 0) + (retrain.gain_points or 0))
    for one in (refresh, retrain, both):
        assert one.gain_points_low is not None
        assert 0 <= one.gain_points_low <= (one.gain_points or 0)
        # Gains are given with two decimals, and so a small cost makes the rate coarse.
        coarse = 0.06 + 0.011 / one.cost_seconds * 3600
        assert one.points_per_hour == pytest.approx(one.gain_points_low / one.cost_seconds * 3600, abs=coarse)


# --- what it says of the cases that operators meet -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signals", "action"),
    [
        ({}, Action.REFRESH),
        ({"model_gap": measure(0.3)}, Action.REFRESH_RETRAIN),
        ({"delta": UNMOVED, "changes": UNCHANGED, "model_gap": measure(0.3)}, Action.RETRAIN),
        ({"delta": UNMOVED, "changes": UNCHANGED}, Action.NOTHING),
        ({"refresh_gain": UNMEASURED}, Action.REFRESH),
        ({"refresh_gain": UNMEASURED, "score_gold": measure(0.0)}, Action.NOTHING),
        ({"model_gap": measure(0.3), "refused": {"RETRAIN": "no"}}, Action.REFRESH),
        ({"model_gap": measure(0.3), "refused": {"REFRESH": "no"}}, Action.RETRAIN),
        ({"model_gap": measure(0.3), "refused": {"REFRESH": "no", "RETRAIN": "no"}}, Action.NOTHING),
        ({"model_gap": measure(0.3), "refused": {BOTH: "no"}}, Action.REFRESH),
        ({"refused": {BOTH: "no"}}, Action.REFRESH),
        ({"changes": GONE, "refused": {"REFRESH": "no"}}, Action.NOTHING),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_half_is_mended_where_it_is_out_of_date(signals: dict[str, Any], action: Action) -> None:
    assert decide(evidence(**signals), PARAMS).action is action


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"model_gap": measure(0.0)}, "scores 0.95, which reaches the target"),
        ({"model_gap": measure(-0.05)}, "scores 0.95, which reaches the target"),
        ({"model_gap": measure(0.0), "score_gold": UNMEASURED}, "which reaches the target"),
        ({"model_gap": measure(0.3), "adapter_is_current": True}, "the same examples would bring the same adapter"),
        ({"model_gap": measure(0.3), "examples": 19}, "but 19 examples are too few to learn from"),
        ({"model_gap": UNMEASURED}, "the model's gap was not measured: no questions"),
        ({"model_gap": measure(0.3), "refused": {"RETRAIN": "rolled back (too slow)"}}, "rolled back (too slow)"),
        ({"model_gap": measure(0.3, low=-0.01)}, "30 points below the target"),
    ],
)
def test_a_retrain_that_brings_nothing_is_not_made_and_the_reason_is_said(signals: dict[str, Any], said: str) -> None:
    decision = decide(evidence(**signals), PolicyParams(points_per_hour=0))
    assert not decision.action.retrains
    assert decision.reasons[1].startswith("No to RETRAIN: ")
    assert said in decision.reasons[1]


def test_a_gap_that_may_be_none_at_all_gains_nothing_at_the_lower_end() -> None:
    retrain = option(
        decide(evidence(model_gap=measure(0.3, low=-0.01)), PolicyParams(points_per_hour=0)), Action.RETRAIN
    )
    assert (retrain.gain_points, retrain.gain_points_low, retrain.worth_it) == (30, 0, False)


def test_as_many_examples_as_are_needed_are_enough() -> None:
    assert decide(evidence(model_gap=measure(0.3), examples=20, min_examples=20), PARAMS).action.retrains


def test_the_share_of_new_chunks_stands_in_for_a_gain_that_was_not_measured() -> None:
    decision = decide(evidence(refresh_gain=UNMEASURED, delta=delta(new=2, gone=1)), PARAMS)
    refresh = option(decision, Action.REFRESH)
    assert (refresh.gain_points, refresh.gain_points_low) == (19, 19)
    assert "2 of 10 chunks are new, 1 old ones are gone; no questions, so the share of chunks" in refresh.because


@pytest.mark.parametrize(("measured", "expected"), [(0.05, 19), (0.5, 50)], ids=["share", "questions"])
def test_a_refresh_gains_what_questions_show_and_at_least_the_share_of_new_chunks(
    measured: float, expected: float
) -> None:
    decision = decide(evidence(refresh_gain=measure(measured), delta=delta(new=2)), PARAMS)
    refresh = option(decision, Action.REFRESH)
    assert (refresh.gain_points, refresh.gain_points_low) == (expected, expected)


@pytest.mark.parametrize(
    ("signals", "action"),
    [
        ({"refresh_gain": measure(0.5, low=0.25)}, Action.REFRESH),
        ({"model_gap": measure(0.5, low=0.25)}, Action.RETRAIN),
    ],
    ids=["refresh", "retrain"],
)
def test_the_lower_end_of_a_gain_decides(signals: dict[str, Any], action: Action) -> None:
    costs = Costs(refresh_seconds=26, retrain_seconds=26, prove_seconds=10, source="prior")
    weighed = option(decide(evidence(costs=costs, **signals), PARAMS), action)
    assert (weighed.gain_points, weighed.gain_points_low, weighed.points_per_hour) == (50, 25, 2500)
    for price, worth_it in ((2500, True), (2501, False)):
        decision = decide(evidence(costs=costs, **signals), PolicyParams(points_per_hour=price))
        assert option(decision, action).worth_it is worth_it


def test_chunks_that_only_moved_are_called_so() -> None:
    decision = decide(evidence(changes=MOVED, delta=delta(new=0, gone=0)), PARAMS)
    assert "the same chunks in other documents or places" in decision.reasons[0]


def test_an_action_that_buys_exactly_the_price_is_taken() -> None:
    bargain = {
        "refresh_gain": measure(0.25),
        "costs": Costs(refresh_seconds=26, retrain_seconds=9, prove_seconds=10, source="prior"),
    }
    assert action_at(2500, **bargain) is Action.REFRESH
    assert action_at(2500.01, **bargain) is Action.NOTHING


@law
@given(st.integers(1, 100), st.integers(1, 20_000))
def test_the_price_that_would_have_changed_a_decision_changes_it(percent: int, seconds: int) -> None:
    signals = {
        "delta": UNMOVED,
        "changes": UNCHANGED,
        "model_gap": measure(percent / 100),
        "costs": Costs(refresh_seconds=1, retrain_seconds=seconds, prove_seconds=1, source="prior"),
    }
    said = decide(evidence(**signals), PolicyParams(points_per_hour=0)).would_change[1]
    found = re.fullmatch(r"RETRAIN would not have been chosen with policy\.points_per_hour above ([\d.]+)", said)
    assert found is not None
    # It is printed with one decimal.
    assert action_at(float(found[1]) + 0.1, **signals) is Action.NOTHING
    assert action_at(max(0.0, float(found[1]) - 0.1), **signals) is Action.RETRAIN


@law
@given(st.integers(0, 20), st.integers(1, 5000), st.integers(1, 5000))
def test_the_gain_that_would_have_changed_a_decision_changes_it(percent: int, seconds: int, price: int) -> None:
    signals: dict[str, Any] = {
        "delta": UNMOVED,
        "changes": UNCHANGED,
        "costs": Costs(refresh_seconds=1, retrain_seconds=seconds, prove_seconds=1, source="prior"),
    }
    decision = decide(evidence(model_gap=measure(percent / 100), **signals), PolicyParams(points_per_hour=price))
    assume(decision.action is Action.NOTHING)
    pattern = r"RETRAIN would have been chosen had its gain, ([\d.]+) points at the lower end, been ([\d.]+) or more"
    found = re.fullmatch(pattern, decision.would_change[1])
    assert found is not None
    assert float(found[1]) == percent
    # It is printed with one decimal.
    assert action_at(price, model_gap=measure((float(found[2]) + 0.1) / 100), **signals) is Action.RETRAIN


def test_what_was_refused_is_weighed_again_on_other_data() -> None:
    decision = decide(evidence(refused={"REFRESH": "the gate refused it"}), PARAMS)
    assert decision.would_change[0] == "REFRESH would be weighed again on other data, or under other params"
    assert decision.reasons[0].endswith("; the gate refused it.")


def test_stale_questions_are_counted() -> None:
    decision = decide(evidence(stale_questions=("q1", "q2")), PARAMS)
    assert decision.reasons[2] == "2 golden questions are stale and were not scored."


@pytest.mark.parametrize(
    ("changes", "said"), [(UNCHANGED, "nothing has changed"), (GONE, "leaves the live release as it is")]
)
def test_nothing_is_weighed_too(changes: ChangeSet, said: str) -> None:
    nothing = option(decide(evidence(changes=changes), PARAMS), Action.NOTHING)
    assert (nothing.because, nothing.worth_it, nothing.points_per_hour) == (said, False, None)


def test_where_both_were_refused_together_the_refresh_goes_first_and_the_retrain_says_why_it_waits() -> None:
    decision = decide(evidence(model_gap=measure(0.3), refused={"REFRESH+RETRAIN": "the gate"}), PolicyParams())
    assert decision.action == "REFRESH"
    refresh, retrain, both = decision.options[1:]
    assert (refresh.worth_it, retrain.worth_it, both.worth_it) == (True, False, False)
    assert decision.reasons[1].startswith("No to RETRAIN: ")
    assert "it waits, since together the gate" in decision.reasons[1]
    assert decision.would_change[1] == "RETRAIN would be weighed again on other data, or under other params"


def test_no_model_is_released_without_an_index() -> None:
    refused = {"REFRESH": "the gate", "REFRESH+RETRAIN": "the gate"}
    decision = decide(evidence(live_release=None, model_gap=measure(0.5), refused=refused), PolicyParams())
    assert decision.action == "NOTHING"
    assert "a model is not released without an index" in decision.reasons[1]


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"model_gap": measure(0.3), "adapter_is_current": True}, "had there been other examples, or other settings"),
        ({"model_gap": measure(0.3), "examples": 19}, "had there been 20 examples"),
    ],
)
def test_what_blocks_a_retrain_is_what_would_have_changed_it(signals: dict[str, Any], said: str) -> None:
    assert said in decide(evidence(**signals), PolicyParams()).would_change[1]


def test_a_forced_refresh_does_not_say_that_a_price_would_have_stopped_it() -> None:
    for signals in ({"live_release": None}, {"delta": delta(documents_gone=1)}, {"delta": anew().delta}):
        decision = decide(evidence(**signals), PolicyParams(points_per_hour=1e9))
        assert decision.action.refreshes
        assert "points_per_hour" not in decision.would_change[0]


def test_a_bar_that_was_missed_is_above_the_gain_as_it_is_written() -> None:
    costs = Costs(refresh_seconds=1, retrain_seconds=7, prove_seconds=1, source="prior")
    decision = decide(evidence(model_gap=measure(0.001), costs=costs), PolicyParams(points_per_hour=50))
    assert "had its gain, 0.1 points at the lower end, been 0.2 or more" in decision.would_change[1]


# --- another embedder ----------------------------------------------------------------------------------------------


def test_a_rebuild_says_what_it_would_cost() -> None:
    decision = decide(anew(), PARAMS)
    rebuild = option(decision, Action.REBUILD)
    assert decision.action is Action.REBUILD
    assert "all 10 chunks anew, 10 of them to be embedded" in rebuild.because
    assert rebuild.cost_seconds == 30


def test_a_rebuild_and_a_retrain_go_together() -> None:
    decision = decide(anew(model_gap=measure(0.6), score_gold=measure(0.35)), PARAMS)
    assert decision.action is Action.REBUILD_RETRAIN
    assert option(decision, Action.REBUILD_RETRAIN).cost_seconds == 330


def test_a_rebuild_that_was_refused_is_weighed_again_on_other_data_or_params() -> None:
    decision = decide(anew(refused={"REBUILD": "the gate refused it"}), PARAMS)
    assert decision.action is Action.NOTHING
    assert decision.would_change[0] == "REBUILD would be weighed again on other data, or under other params"


def test_where_both_at_once_were_refused_the_rebuild_goes_first() -> None:
    signals = {"model_gap": measure(0.6), "score_gold": measure(0.35)}
    decision = decide(anew(refused={"REBUILD+RETRAIN": "the gate refused it"}, **signals), PARAMS)
    assert decision.action is Action.REBUILD
    assert "but with a refresh it waits, since together the gate refused it" in decision.reasons[1]


def test_before_the_first_release_there_is_nothing_to_make_anew() -> None:
    assert decide(evidence(live_release=None), PARAMS).action is Action.REFRESH
