"""Does every simpler policy keep what all policies promise: pure, never in want of a measure, never at a loss?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.registry import BUILT_IN, load_policy
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import ChangeSet
from ragtide.pipelines.records.evidence import Costs, Evidence, Measure, PastDecision
from ragtide.pipelines.reports.reason_texts import counterfactual_text, reason_text
from tests.factories import EVIDENCE_PARTS, UNCHANGED, UNMOVED, delta, evidence, measure

law = settings(derandomize=True, deadline=None, max_examples=50)
UNMEASURED = Measure.unmeasured("no questions")
MEASURES = tuple(
    name for kind in EVIDENCE_PARTS.values() for name, field in kind.model_fields.items() if field.annotation is Measure
)
BASELINES = tuple(sorted(set(BUILT_IN) - {"evidence"}))
every_baseline = pytest.mark.parametrize("name", BASELINES)

SHARES = st.integers(0, 100).map(lambda whole: whole / 100)
PERHAPS = st.none() | SHARES
PASTS = st.builds(
    PastDecision,
    cycle=st.just("c"),
    action=st.sampled_from(["NOTHING", "HOLD", "REFRESH", "RETRAIN", "REBUILD+RETRAIN"]).map(Action.named),
    accepted=st.booleans(),
    rolled_back=st.booleans(),
    recovered_points=st.none() | st.integers(-100, 100).map(float),
    score=PERHAPS,
    changed_share=PERHAPS,
)
BASELINE_PARAMS = st.builds(
    BaselineParams,
    period_cycles=st.integers(1, 6),
    amount_share=SHARES,
    cusum_slack=SHARES,
    cusum_limit=SHARES,
    drift_limit=SHARES,
)
PARAMS = st.builds(PolicyParams, points_per_hour=st.integers(0, 500), baseline=BASELINE_PARAMS)
CHANGES = st.sampled_from(
    [
        UNCHANGED,
        evidence().data.changes,
        ChangeSet(before=None, after="s1", examples_changed=True, questions_changed=True),
    ]
)
REBUILD = "the index was built with another embedder"
DELTAS = st.sampled_from([UNMOVED, delta(), delta(chunks_after=0), delta().model_copy(update={"rebuild": REBUILD})])
COSTS = st.builds(
    Costs,
    refresh_seconds=st.integers(0, 3000).map(float),
    retrain_seconds=st.integers(0, 3000).map(float),
    prove_seconds=st.integers(0, 3000).map(float),
    source=st.just("prior"),
)


def world(**signals: Any) -> Evidence:
    """Evidence of which nothing was measured that is not given."""
    return evidence(**(dict.fromkeys(MEASURES, UNMEASURED) | signals))


NUMBERS = {
    "changes": CHANGES,
    "delta": DELTAS,
    "live_release": st.sampled_from(["1", None]),
    "examples": st.integers(0, 200),
    "new_examples": st.none() | st.integers(0, 200),
    "costs": COSTS,
}
BARE = st.builds(world, **NUMBERS)
MEASURED = {
    name: st.sampled_from([UNMEASURED]) | SHARES.map(measure) for name in ("score_retrieved", "shift", "excess_loss")
}
WORLDS = st.builds(world, past=st.lists(PASTS, max_size=6).map(tuple), **NUMBERS, **MEASURED)


def choose(name: str, seen: Evidence, params: PolicyParams) -> Recommendations:
    return load_policy(name).choose(seen, weigh_components(seen, params), params)


def test_the_baselines_are_all_there() -> None:
    assert BASELINES == ("always", "amount", "cara", "cusum", "drift", "modyn", "never", "periodic")
    assert len(MEASURES) >= 14


@every_baseline
def test_a_policy_is_loaded_by_its_name(name: str) -> None:
    assert type(load_policy(name)).__name__ == name.capitalize()


@every_baseline
@law
@given(seen=WORLDS, params=PARAMS)
def test_the_same_evidence_brings_the_same_choice_to_the_byte(name: str, seen: Evidence, params: PolicyParams) -> None:
    before = seen.model_dump_json()
    first = repr(choose(name, seen, params))
    assert repr(choose(name, Evidence.model_validate_json(before), params)) == first
    assert seen.model_dump_json() == before


@every_baseline
@law
@given(seen=BARE, params=PARAMS)
def test_evidence_of_which_nothing_was_measured_and_no_past_is_no_trouble(
    name: str, seen: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, seen, params)
    if name in ("cusum", "cara", "drift"):
        assert not choice.refresh.wanted
        assert not choice.retrain.wanted
    named = params.model_copy(update={"name": name})
    assert decide(seen, named).policy == name


@every_baseline
@law
@given(seen=WORLDS, params=PARAMS)
def test_every_wish_says_why_and_what_would_have_turned_it_round(
    name: str, seen: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, seen, params)
    for recommended in (choice.refresh, choice.retrain):
        assert recommended.counterfactual is not None
        why = "; ".join(map(reason_text, recommended.reasons))
        otherwise = counterfactual_text(recommended.counterfactual, recommended.wanted)
        for clause in (why, otherwise):
            assert clause.strip()
            assert not clause.endswith(".")
            assert "None" not in clause
            assert "  " not in clause


@pytest.mark.parametrize("name", ["always", "never", "periodic", "cusum", "cara"])
@law
@given(seen=WORLDS, params=PARAMS)
def test_a_policy_that_cannot_tell_the_halves_apart_wants_both_or_neither(
    name: str, seen: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, seen, params)
    assert choice.refresh.wanted is choice.retrain.wanted
    assert choice.refresh.because == choice.retrain.because
