"""Does "never" want nothing, whatever is lost, and do the rules of every policy still hold?"""

from __future__ import annotations

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Never
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from tests.factories import delta, evidence, measure

PARAMS = PolicyParams(name="never", points_per_hour=0)
STALE = evidence(refresh_gain=measure(0.9), model_gap=measure(0.9))


def test_nothing_is_wanted_however_much_there_is_to_win() -> None:
    choice = Never().choose(STALE, weigh_components(STALE, PARAMS), PARAMS)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, False)
    assert decide(STALE, PARAMS).action == Action.NOTHING
    assert decide(STALE, PARAMS.model_copy(update={"name": "evidence"})).action == Action.REFRESH.with_retrain()


def test_the_first_index_is_built_all_the_same() -> None:
    assert decide(evidence(live_release=None), PARAMS).action == Action.REFRESH


def test_what_is_gone_is_taken_out_all_the_same() -> None:
    assert decide(evidence(delta=delta(documents_deleted=1)), PARAMS).action == Action.REFRESH
