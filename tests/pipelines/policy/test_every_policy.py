"""Tests that every baseline policy passes: purity, unmeasured evidence, readable reasons."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
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
OPTIONAL_SHARES = st.none() | SHARES
PASTS = st.builds(
    PastDecision,
    cycle=st.just("c"),
    action=st.sampled_from(["NOTHING", "HOLD", "REFRESH", "RETRAIN", "REBUILD+RETRAIN"]).map(Action.named),
    accepted=st.booleans(),
    rolled_back=st.booleans(),
    recovered_points=st.none() | st.integers(-100, 100).map(float),
    score=OPTIONAL_SHARES,
    changed_share=OPTIONAL_SHARES,
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


def evidence_with(**signals: Any) -> Evidence:
    """Evidence with only the given signals measured."""
    return evidence(**(dict.fromkeys(MEASURES, UNMEASURED) | signals))


NUMBERS = {
    "changes": CHANGES,
    "delta": DELTAS,
    "live_release": st.sampled_from(["1", None]),
    "examples": st.integers(0, 200),
    "new_examples": st.none() | st.integers(0, 200),
    "costs": COSTS,
}
UNMEASURED_EVIDENCE = st.builds(evidence_with, **NUMBERS)
MEASURED = {
    name: st.sampled_from([UNMEASURED]) | SHARES.map(measure) for name in ("score_retrieved", "shift", "excess_loss")
}
EVIDENCE = st.builds(evidence_with, past=st.lists(PASTS, max_size=6).map(tuple), **NUMBERS, **MEASURED)


def choose(name: str, observed: Evidence, params: PolicyParams) -> Recommendations:
    return load_policy(name).choose(observed, weigh_components(observed, params), params)


def test_every_baseline_is_tested() -> None:
    assert BASELINES == ("always", "amount", "cara", "cusum", "drift", "modyn", "never", "periodic")
    assert len(MEASURES) >= 14


@every_baseline
def test_a_policy_is_loaded_by_its_name(name: str) -> None:
    assert type(load_policy(name)).__name__ == name.capitalize()


@every_baseline
@law
@given(observed=EVIDENCE, params=PARAMS)
def test_the_same_evidence_gives_byte_identical_recommendations(
    name: str, observed: Evidence, params: PolicyParams
) -> None:
    before = observed.model_dump_json()
    first = repr(choose(name, observed, params))
    assert repr(choose(name, Evidence.model_validate_json(before), params)) == first
    assert observed.model_dump_json() == before


@every_baseline
@law
@given(observed=UNMEASURED_EVIDENCE, params=PARAMS)
def test_every_baseline_accepts_unmeasured_evidence_without_history(
    name: str, observed: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, observed, params)
    if name in ("cusum", "cara", "drift"):
        assert not choice.refresh.wanted
        assert not choice.retrain.wanted
    named_params = params.model_copy(update={"name": name})
    assert make_decision(observed, named_params).policy == name


@every_baseline
@law
@given(observed=EVIDENCE, params=PARAMS)
def test_every_recommendation_has_readable_reasons_and_a_counterfactual(
    name: str, observed: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, observed, params)
    for recommendation in (choice.refresh, choice.retrain):
        assert recommendation.counterfactual is not None
        reasons = "; ".join(map(reason_text, recommendation.reasons))
        counterfactual = counterfactual_text(recommendation.counterfactual, recommendation.wanted)
        for clause in (reasons, counterfactual):
            assert clause.strip()
            assert not clause.endswith(".")
            assert "None" not in clause
            assert "  " not in clause


@pytest.mark.parametrize("name", ["always", "never", "periodic", "cusum", "cara"])
@law
@given(observed=EVIDENCE, params=PARAMS)
def test_policies_without_component_signals_want_both_components_or_neither(
    name: str, observed: Evidence, params: PolicyParams
) -> None:
    choice = choose(name, observed, params)
    assert choice.refresh.wanted is choice.retrain.wanted
    assert choice.refresh.reasons == choice.retrain.reasons
