"""Tests of the wording: a text for every code and outcome, and headlines of one line."""

from __future__ import annotations

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.registry import BUILT_IN
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.reason import Reason, ReasonCode
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.reports.reason_texts import QUANTITIES, REASONS, counterfactual_text
from ragtide.pipelines.reports.wording import HEADLINE, describe_outcome, headline, main_reason
from tests.factories import UNCHANGED, UNMOVED, evidence, measure, option_of
from tests.pipelines.reports.pages import full_plan

BY_DIRECTION = {ReasonCode.IF_QUANTITY, ReasonCode.IF_PERIOD}


def test_every_code_has_a_text() -> None:
    assert set(REASONS) | BY_DIRECTION == set(ReasonCode)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_counterfactual_names_the_other_side_of_the_limit(quantity: str) -> None:
    reason = Reason.of(ReasonCode.IF_QUANTITY, quantity=quantity, limit=0.25)
    chosen, declined = (counterfactual_text(reason, worth_it) for worth_it in (True, False))
    assert "below 0.25" in chosen
    assert "above 0.25" in declined


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_described_with_its_detail(outcome: Outcome) -> None:
    cycle = Cycle(
        name="cycle-7",
        run="r7",
        at="2030-01-01T00:00:00+00:00",
        action=Action.REFRESH,
        outcome=outcome,
        detail="the disk is full",
        reason="",
        plan="0123456789ab",
        release="4",
    )
    text = describe_outcome(cycle)
    assert ("the disk is full" in text) is (outcome in (Outcome.REJECTED, Outcome.FAILED))
    assert ("release 4" in text) is (outcome in (Outcome.RELEASED, Outcome.ROLLED_BACK))
    assert ("0123456789ab" in text) is (outcome is Outcome.HELD)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_headline_is_one_line_under_every_policy(name: str, limit: float | None) -> None:
    gathered = full_plan().evidence
    decision = make_decision(gathered, PolicyParams(name=name, approve_above_seconds=limit))
    line = headline(Plan(evidence=gathered, decision=decision, params=""))
    assert 0 < len(line) <= HEADLINE
    assert "\n" not in line


def test_a_retrain_for_deleted_documents_has_them_as_its_main_reason() -> None:
    gathered = evidence(
        delta=UNMOVED,
        changes=UNCHANGED,
        adapter_is_current=True,
        model_gap=measure(0.2),
        deleted_training_documents=("a.md",),
    )
    chosen, declined = (
        option_of(make_decision(gathered, PolicyParams(forget_points=points)), Action.RETRAIN) for points in (60, 0.01)
    )
    assert main_reason(chosen).code is ReasonCode.FORGETS_DELETED
    assert main_reason(declined).code is ReasonCode.SAME_ADAPTER
