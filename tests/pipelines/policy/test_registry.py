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

OF_THE_USER = f"{__name__}:Eager"


class Eager:
    """Wants whatever can be had."""

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        wish = Recommendation(True, (Reason.custom("why not"),), Reason.custom("under no other evidence"))
        return Recommendations(refresh=wish, retrain=wish)


class Demanding:
    """Cannot be made without being told something."""

    def __init__(self, what: str) -> None:
        self.what = what


class Mute:
    """Chooses nothing."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What was loaded under one test's entry points is not there in the next."""
    load_policy.cache_clear()
    yield
    load_policy.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """As if a package had these entry points."""

    def installed(group: str) -> Sequence[EntryPoint]:
        return [EntryPoint(name, where, group) for name, where in points.items()] if group == GROUP else []

    monkeypatch.setattr("ragtide.pipelines.policy.registry.entry_points", installed)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_policy_can_be_had(name: str) -> None:
    assert callable(load_policy(name).choose)


def test_the_default_policy_is_the_one_that_goes_by_the_evidence() -> None:
    assert isinstance(load_policy(PolicyParams().name), EvidencePolicy)


def test_the_built_in_policies_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, zeal=OF_THE_USER, ardour=OF_THE_USER)
    assert list(known_policies()) == [*BUILT_IN, "ardour", "zeal"]


def test_a_package_brings_a_policy_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, eager=OF_THE_USER)
    assert type(load_policy("eager")).__name__ == "Eager"


def test_no_package_takes_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, evidence=OF_THE_USER)
    assert known_policies()["evidence"] == BUILT_IN["evidence"]
    assert isinstance(load_policy("evidence"), EvidencePolicy)


def test_a_class_of_ones_own_decides_under_the_rules_that_hold_for_all() -> None:
    params = PolicyParams(name=OF_THE_USER, approve_above_seconds=100)
    decision = make_decision(
        evidence(delta=UNMOVED, changes=UNCHANGED, rejected_actions={"REFRESH": "the gate refused it"}), params
    )
    assert decision.policy == OF_THE_USER
    assert (decision.action, decision.proposed) == (Action.HOLD, Action.RETRAIN)
    refresh = option_of(decision, Action.REFRESH)
    assert codes(refresh.reasons) == [ReasonCode.REJECTED_BEFORE, ReasonCode.CUSTOM]
    assert option_text(refresh) == "the gate refused it; why not"


def test_a_policy_that_always_wants_to_train_has_no_examples_to_do_it_with() -> None:
    decision = make_decision(evidence(examples=19), PolicyParams(name=OF_THE_USER))
    assert decision.action == Action.REFRESH
    few = values_of(option_of(decision, Action.RETRAIN).reasons, ReasonCode.TOO_FEW_EXAMPLES)
    assert few == {"examples": 19, "needed": 20}


def test_an_unknown_name_is_refused_with_those_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, eager=OF_THE_USER)
    known = ", ".join([*BUILT_IN, "eager"])
    with pytest.raises(UserError, match=f"policy.name = 'evidense': known are {known}, or module:Class"):
        load_policy("evidense")


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:Policy",
        f"{__name__}:NoSuchClass",
        f"{__name__}:Demanding",
        f"{__name__}:__name__",
        f"{__name__}:",
        ".relative:Policy",
        ":Policy",
    ],
)
def test_a_class_that_cannot_be_had_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match="cannot be loaded from"):
        load_policy(name)


def test_a_class_that_chooses_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"Mute has no method choose\(evidence, options, params\)"):
        load_policy(f"{__name__}:Mute")


@pytest.mark.parametrize("reasons", [("a text",), (Reason.custom("a reason"), "a text"), "a text"])
def test_a_reason_that_is_plain_text_is_an_error(reasons: Any) -> None:
    with pytest.raises(UserError, match=r"Reason\.custom"):
        Recommendation(True, reasons)
