"""Tests of the policy "drift": documents and examples are judged apart."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.baselines import Drift
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import evidence, measure, values_of

PARAMS = PolicyParams(excess_loss_full=0.5, baseline=BaselineParams(drift_limit=0.1))


def choose(**signals: Any) -> Recommendations:
    observed = evidence(**signals)
    return Drift().choose(observed, weigh_components(observed, PARAMS), PARAMS)


@pytest.mark.parametrize(("shift", "wanted"), [(0.0, False), (0.1, False), (0.11, True)])
def test_drifted_documents_select_only_a_refresh(shift: float, wanted: bool) -> None:
    choice = choose(shift=measure(shift), excess_loss=measure(0.0))
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, False)


@pytest.mark.parametrize(("excess_loss", "wanted"), [(-0.2, False), (0.5, False), (0.6, True)])
def test_excess_loss_on_new_examples_selects_only_a_retrain(excess_loss: float, wanted: bool) -> None:
    choice = choose(shift=measure(0.0), excess_loss=measure(excess_loss))
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_the_value_counts_and_not_the_lower_bound() -> None:
    assert choose(shift=measure(0.2, 0.0, 0.4)).refresh.wanted


def test_answer_scores_do_not_count() -> None:
    signals = {"shift": measure(0.0), "excess_loss": measure(0.0)}
    choice = choose(refresh_gain=measure(0.9), model_gap=measure(0.9), **signals)
    assert not choice.refresh.wanted
    assert not choice.retrain.wanted


def test_the_reasons_say_why_drift_was_not_measured() -> None:
    choice = choose(shift=Measure.unmeasured("no text of the old documents"))
    values = values_of(choice.refresh.reasons, ReasonCode.DRIFT)
    assert (values["value"], values["why"]) == (None, "no text of the old documents")
    assert choice.refresh.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="shift", limit=0.1)


def test_the_reasons_give_the_drift_and_its_limit() -> None:
    retrain = choose(excess_loss=measure(0.7)).retrain
    values = values_of(retrain.reasons, ReasonCode.DRIFT)
    assert (values["signal"], values["value"], values["limit"]) == ("excess_loss", 0.7, 0.5)
