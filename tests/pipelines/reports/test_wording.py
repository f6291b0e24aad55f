"""Tests of the wording: a text for every code and outcome, and headlines of one line."""

from __future__ import annotations

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.registry import BUILT_IN
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason, ReasonCode, Value
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.reports.reason_texts import QUANTITIES, REASONS, counterfactual_text, reason_text, short_text
from ragtide.pipelines.reports.signals import signal_name
from ragtide.pipelines.reports.wording import (
    HEADLINE,
    counterfactual_sentences,
    describe_outcome,
    headline,
)
from tests.factories import UNCHANGED, UNMOVED, evidence
from tests.pipelines.reports.pages import full_plan

BY_DIRECTION = {ReasonCode.IF_QUANTITY, ReasonCode.IF_PERIOD}


def headline_of(gathered: Evidence) -> str:
    return headline(Plan(evidence=gathered, decision=make_decision(gathered, PolicyParams()), params="p1"))


def test_every_code_has_a_text() -> None:
    assert set(REASONS) | BY_DIRECTION == set(ReasonCode)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_counterfactual_names_the_other_side_of_the_limit(quantity: str) -> None:
    reason = Reason.of(ReasonCode.IF_QUANTITY, quantity=quantity, limit=0.25)
    chosen, declined = (counterfactual_text(reason, worth_it) for worth_it in (True, False))
    assert "below 0.25" in chosen
    assert "above 0.25" in declined


def test_the_text_of_a_policy_of_the_user_is_a_sentence_of_its_own() -> None:
    decision = make_decision(evidence(), PolicyParams())
    own = Reason.custom("the fair must be over")
    options = tuple(option.model_copy(update={"counterfactual": own}) for option in decision.options)
    assert counterfactual_sentences(decision.model_copy(update={"options": options})) == ["The fair must be over."]


def test_the_counterfactual_of_a_built_in_policy_names_its_action() -> None:
    sentences = counterfactual_sentences(make_decision(evidence(), PolicyParams()))
    assert [sentence.partition(" have been chosen ")[0] for sentence in sentences] == [
        "REFRESH would not",
        "RETRAIN would",
    ]


@pytest.mark.parametrize("score", [0.5, 0.9])
def test_the_falls_of_a_score_are_named_by_two_scores_whether_it_rose_or_fell(score: float) -> None:
    reason = Reason.of(ReasonCode.SCORE_FELL, before=0.8, score=score, total=0.3, limit=0.2)
    for text in (short_text(reason), reason_text(reason)):
        assert f"went from 0.80 to {score:.2f}" in text


@pytest.mark.parametrize("signal", ["shift", "excess_loss"])
@pytest.mark.parametrize("value", [None, 0.3])
def test_a_signal_has_an_article_in_a_sentence(signal: str, value: float | None) -> None:
    drift = Reason.of(ReasonCode.DRIFT, signal=signal, value=value, limit=0.2, why="no text")
    limit = Reason.of(ReasonCode.IF_QUANTITY, quantity=signal, limit=0.2)
    assert reason_text(drift).startswith(f"the {signal_name(signal)} ")
    assert f" the {signal_name(signal)} been" in counterfactual_text(limit, worth_it=False)


@pytest.mark.parametrize(
    ("points", "text"), [(None, "not known"), (0.0, "0 points"), (1.0, "1 point"), (2.5, "2.5 points")]
)
def test_an_unknown_backlog_is_not_a_backlog_of_zero(points: float | None, text: str) -> None:
    reason = Reason.of(ReasonCode.BACKLOG, quantity="example_backlog", points=points, cycles=1, price=1.0)
    for words in (short_text(reason), reason_text(reason)):
        assert f"is {text}" in words
        assert "1 points" not in words
    assert ("0 points" in short_text(reason)) is (points == 0)


@pytest.mark.parametrize(
    ("code", "values", "text"),
    [
        (ReasonCode.FIRST_INDEX, {"chunks": 1}, "1 chunk is new"),
        (ReasonCode.FIRST_INDEX, {"chunks": 2}, "all 2 chunks are new"),
        (ReasonCode.REBUILT_CHUNKS, {"chunks": 1, "to_embed": 1}, "1 chunk is rebuilt, and 1 must be embedded"),
        (ReasonCode.REBUILT_CHUNKS, {"chunks": 2, "to_embed": 0}, "all 2 chunks are rebuilt, and 0 must be embedded"),
        (ReasonCode.NEW_EXAMPLES, {"new": 1, "examples": 5}, "1 of 5 examples is new to the model"),
        (ReasonCode.NEW_EXAMPLES, {"new": 2, "examples": 5}, "2 of 5 examples are new to the model"),
        (ReasonCode.NEW_PAIRS, {"share": 1.0, "pairs": 1}, "100 % of 1 pair is new to the embedder"),
        (ReasonCode.IF_EXAMPLES, {"examples": 1}, "only with 1 example"),
        (ReasonCode.IF_PAIRS, {"pairs": 1}, "only with 1 pair"),
        (
            ReasonCode.OVER_BUDGET,
            {"spent": 0.5, "budget": 1.0, "hours": 0.7},
            "0.50 hours of the week's budget of 1 hour are spent, and this takes 0.70 hours",
        ),
    ],
)
def test_a_clause_agrees_with_its_number(code: ReasonCode, values: dict[str, Value], text: str) -> None:
    assert reason_text(Reason.of(code, **values)) == text


@pytest.mark.parametrize("code", [ReasonCode.DELETIONS_PENDING, ReasonCode.DELETIONS_DECLINED])
@pytest.mark.parametrize(("documents", "chunks"), [(1, "its chunks"), (2, "their chunks")])
def test_the_chunks_of_deleted_documents_agree_with_their_number(code: ReasonCode, documents: int, chunks: str) -> None:
    assert chunks in reason_text(Reason.of(code, documents=documents, why="no"))


def test_both_at_once_that_were_rejected_before_are_named_as_such() -> None:
    rejected = Reason.of(ReasonCode.REJECTED_WITH_REFRESH, why="the gate rejected it for this data in cycle-7")
    assert reason_text(rejected) == (
        "the refresh goes first, since both at once are ruled out (the gate rejected it for this data in cycle-7)"
    )


DETAILED = (Outcome.RELEASED, Outcome.REJECTED, Outcome.HELD, Outcome.FAILED, Outcome.INTERRUPTED)


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
    assert ("the disk is full" in text) is (outcome in DETAILED)
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


WAITING = {"pending_deletions": {"gone.md": "1"}, "delta": UNMOVED}


@pytest.mark.parametrize(
    ("changes", "unchanged"),
    [
        ({}, True),
        ({"removed": ("gone.md",)}, True),
        ({"removed": ("gone.md", "scan.pdf")}, False),
        ({"edited": ("a.md",)}, False),
        ({"examples_changed": True}, False),
        ({"questions_changed": True}, False),
    ],
)
def test_the_headline_of_pending_deletions_says_whether_anything_else_changed(
    changes: dict[str, object], unchanged: bool
) -> None:
    line = headline_of(evidence(changes=UNCHANGED.model_copy(update=changes), **WAITING))
    assert line.startswith("1 deletion pending approval; ")
    assert ("nothing else has changed" in line) is unchanged


def test_the_headline_of_pending_deletions_names_what_was_rejected_before() -> None:
    rejected = {"REFRESH": "the gate rejected it for this data in cycle-7"}
    line = headline_of(evidence(pending_deletions={"gone.md": "1"}, rejected_actions=rejected))
    assert line == f"1 deletion pending approval; not done: {rejected['REFRESH']}"
    assert headline_of(evidence(rejected_actions=rejected)) == f"not done: {rejected['REFRESH']}"
