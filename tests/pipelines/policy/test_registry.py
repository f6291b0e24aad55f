"""Tests of loading a policy by name, entry point or class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.default import EvidencePolicy
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.policy.registry import BUILT_IN, GROUP, known_policies, load_policy
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason, ReasonCode
from ragtide.pipelines.reports.wording import option_text
from tests.factories import UNCHANGED, UNMOVED, codes, evidence, option_of, values_of

USER_CLASS = f"{__name__}:Eager"


class Eager:
    """Wants every component."""

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        recommendation = Recommendation(True, (Reason.custom("why not"),), Reason.custom("under no other evidence"))
        return Recommendations(refresh=recommendation, retrain=recommendation)


class NeedsArgument:
    """Cannot be constructed without an argument."""

    def __init__(self, what: str) -> None:
        self.what = what


class WithoutChoose:
    """Has no method `choose`."""


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """Forget the policies that another test's entry points provided."""
    load_policy.cache_clear()
    yield
    load_policy.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """Simulate installed packages with these entry points."""

    def installed(group: str) -> Sequence[EntryPoint]:
        return [EntryPoint(name, target, group) for name, target in points.items()] if group == GROUP else []

    monkeypatch.setattr("ragtide.pipelines.policy.registry.entry_points", installed)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_policy_can_be_loaded(name: str) -> None:
    assert callable(load_policy(name).choose)


def test_the_default_policy_is_the_evidence_policy() -> None:
    assert isinstance(load_policy(PolicyParams().name), EvidencePolicy)


def test_built_in_policies_are_listed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, zeal=USER_CLASS, ardour=USER_CLASS)
    assert list(known_policies()) == [*BUILT_IN, "ardour", "zeal"]


def test_a_package_provides_a_policy_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, eager=USER_CLASS)
    assert type(load_policy("eager")).__name__ == "Eager"


def test_an_entry_point_does_not_replace_a_built_in_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, evidence=USER_CLASS)
    assert known_policies()["evidence"] == BUILT_IN["evidence"]
    assert isinstance(load_policy("evidence"), EvidencePolicy)


def test_a_user_defined_policy_is_subject_to_the_common_rules() -> None:
    params = PolicyParams(name=USER_CLASS, approve_above_seconds=100)
    decision = make_decision(
        evidence(delta=UNMOVED, changes=UNCHANGED, rejected_actions={"REFRESH": "the gate rejected it"}), params
    )
    assert decision.policy == USER_CLASS
    assert (decision.action, decision.proposed) == (Action.HOLD, Action.RETRAIN)
    refresh = option_of(decision, Action.REFRESH)
    assert codes(refresh.reasons) == [ReasonCode.REJECTED_BEFORE, ReasonCode.CUSTOM]
    assert option_text(refresh) == "the gate rejected it; why not"


def test_too_few_examples_prevent_a_retrain_under_any_policy() -> None:
    decision = make_decision(evidence(examples=19), PolicyParams(name=USER_CLASS))
    assert decision.action == Action.REFRESH
    reason_values = values_of(option_of(decision, Action.RETRAIN).reasons, ReasonCode.TOO_FEW_EXAMPLES)
    assert reason_values == {"examples": 19, "needed": 20}


def test_an_unknown_name_raises_and_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, eager=USER_CLASS)
    known = ", ".join([*BUILT_IN, "eager"])
    with pytest.raises(UserError, match=f"policy.name = 'evidense': known are {known}, or module:Class"):
        load_policy("evidense")


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:Policy",
        f"{__name__}:NoSuchClass",
        f"{__name__}:NeedsArgument",
        f"{__name__}:__name__",
        f"{__name__}:",
        ".relative:Policy",
        ":Policy",
    ],
)
def test_a_class_that_cannot_be_loaded_raises(name: str) -> None:
    with pytest.raises(UserError, match="cannot be loaded from"):
        load_policy(name)


def test_a_class_without_a_choose_method_raises() -> None:
    with pytest.raises(UserError, match=r"WithoutChoose has no method choose\(evidence, options, params\)"):
        load_policy(f"{__name__}:WithoutChoose")


@pytest.mark.parametrize("reasons", [("a text",), (Reason.custom("a reason"), "a text"), "a text"])
def test_a_reason_that_is_plain_text_is_an_error_that_names_it(reasons: Any) -> None:
    with pytest.raises(UserError, match=r"not 'a text'") as raised:
        Recommendation(True, reasons)
    assert "Reason.custom" in str(raised.value)


@pytest.mark.parametrize("counterfactual", ["a text", ""])
def test_a_counterfactual_that_is_plain_text_is_an_error_that_names_it(counterfactual: Any) -> None:
    with pytest.raises(UserError, match=f"not {counterfactual!r}"):
        Recommendation(True, (Reason.custom("a reason"),), counterfactual)


@pytest.mark.parametrize("reasons", [(), [], None, Reason.custom("a reason")])
def test_a_recommendation_without_a_tuple_of_reasons_is_an_error(reasons: Any) -> None:
    with pytest.raises(UserError, match=r"Reason\.custom"):
        Recommendation(True, reasons)
