"""Tests of the golden questions that a change puts out of play."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evidence.golden_losses import find_asked, find_golden_losses
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Approval
from ragtide.pipelines.records.release import Release
from tests.factories import graded, release, scorecard, snapshot, workspace


def asking(number: int, *questions: str, decision: Action = Action.REFRESH) -> Release:
    return release(number, decision=decision, scorecard=scorecard(*(graded(name) for name in questions)))


@pytest.mark.parametrize("decision", [Action.REMOVE, Action.RETRAIN, Action.DROP_ADAPTER])
def test_a_release_with_the_index_of_before_answers_what_was_asked_before(decision: Action) -> None:
    releases = {"1": asking(1, "a", "b", "c"), "2": asking(2, "a", "b"), "3": asking(3, "a", decision=decision)}
    assert find_asked(releases["3"], releases.__getitem__) == {"a", "b"}
    assert find_asked(releases["2"], releases.__getitem__) == {"a", "b"}
    assert find_asked(None, releases.__getitem__) == set()


def test_a_release_that_is_no_longer_kept_ends_the_search() -> None:
    def read(_name: str) -> Release:
        raise UserError("deleted")

    assert find_asked(asking(3, "a", decision=Action.REMOVE), read) == {"a"}


def test_questions_that_a_person_has_approved_are_not_lost_whatever_else_changes(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    knowledge, golden = KnowledgeBase(snapshot(), (), ()), GoldenSet((), ("a", "b"))

    def lost() -> tuple[str, ...]:
        return find_golden_losses(space, golden, knowledge, release(), {"a", "b", "c"}).lost

    assert lost() == ("a", "b")
    approval = Approval(plan="0123456789ab", removals={}, why="old", at="2030-01-01T00:00:00+00:00", questions=("a",))
    approval.write(space.approvals / f"{approval.plan}.json")
    assert lost() == ("b",)
