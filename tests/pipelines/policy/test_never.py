"""Tests of the policy "never": it wants nothing, and the rules still hold."""

from __future__ import annotations

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Never
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from tests.factories import delta, evidence, measure

PARAMS = PolicyParams(name="never", points_per_hour=0)
STALE = evidence(refresh_gain=measure(0.9), model_gap=measure(0.9))


def test_nothing_is_wanted_however_large_the_gain() -> None:
    choice = Never().choose(STALE, weigh_components(STALE, PARAMS), PARAMS)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, False)
    assert make_decision(STALE, PARAMS).action == Action.NOTHING
    assert make_decision(STALE, PARAMS.model_copy(update={"name": "evidence"})).action == Action.REFRESH.with_retrain()


def test_the_first_index_is_built_nevertheless() -> None:
    assert make_decision(evidence(live_release=None), PARAMS).action == Action.REFRESH


def test_deleted_documents_are_removed_nevertheless() -> None:
    assert make_decision(evidence(delta=delta(documents_deleted=1)), PARAMS).action == Action.REFRESH
