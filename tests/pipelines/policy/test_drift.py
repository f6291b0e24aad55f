"""Does the drift of the documents bring a refresh, and that of the examples a retrain, and neither the other?"""

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
    seen = evidence(**signals)
    return Drift().choose(seen, weigh_components(seen, PARAMS), PARAMS)


@pytest.mark.parametrize(("shift", "wanted"), [(0.0, False), (0.1, False), (0.11, True)])
def test_documents_that_drifted_bring_a_refresh_alone(shift: float, wanted: bool) -> None:
    choice = choose(shift=measure(shift), excess_loss=measure(0.0))
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, False)


@pytest.mark.parametrize(("excess_loss", "wanted"), [(-0.2, False), (0.5, False), (0.6, True)])
def test_examples_with_excess_loss_bring_a_retrain_alone(excess_loss: float, wanted: bool) -> None:
    choice = choose(shift=measure(0.0), excess_loss=measure(excess_loss))
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_the_value_counts_and_not_the_lower_end() -> None:
    assert choose(shift=measure(0.2, 0.0, 0.4)).refresh.wanted


def test_answers_do_not_count() -> None:
    signals = {"shift": measure(0.0), "excess_loss": measure(0.0)}
    choice = choose(refresh_gain=measure(0.9), model_gap=measure(0.9), **signals)
    assert not choice.refresh.wanted
    assert not choice.retrain.wanted


def test_it_says_why_drift_was_not_measured() -> None:
    choice = choose(shift=Measure.unmeasured("no text of the old documents"))
    values = values_of(choice.refresh.reasons, ReasonCode.DRIFT)
    assert (values["value"], values["why"]) == (None, "no text of the old documents")
    assert choice.refresh.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="shift", limit=0.1)


def test_it_tells_the_drift_and_its_limit() -> None:
    told = choose(excess_loss=measure(0.7)).retrain
    values = values_of(told.reasons, ReasonCode.DRIFT)
    assert (values["signal"], values["value"], values["limit"]) == ("excess_loss", 0.7, 0.5)
