"""Tests of the attribution of lost questions to changed documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.evaluation.attribution import attribute_lost, choose_withheld, find_lost
from ragtide.pipelines.evaluation.gate import allowed_losses, judge_candidate
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.evaluation import GradedAnswer, Verdict
from tests.factories import graded, question, scorecard

NAMES = [f"q{number}" for number in range(6)]


def answers(score: float, sources: dict[str, tuple[str, ...]], found: bool = True) -> list[GradedAnswer]:
    """An answer to each question, with the same score."""
    return [graded(name, score, sources=sources.get(name, ()), gold_retrieved=found) for name in NAMES]


def test_the_document_in_most_contexts_of_lost_questions_is_named_alone() -> None:
    before = scorecard(*answers(1.0, dict.fromkeys(NAMES, ("page.md",))))
    after = scorecard(*answers(0.0, dict.fromkeys(NAMES[:4], ("copy.md", "edited.md"))))
    behind = attribute_lost(before, after, [question(name) for name in NAMES], {"copy.md", "edited.md"})
    assert behind == {"copy.md": tuple(NAMES[:4])}


def test_of_two_documents_the_one_that_was_not_there_before_is_named() -> None:
    before = scorecard(*answers(1.0, dict.fromkeys(NAMES, ("a.md",))))
    after = scorecard(*answers(0.0, dict.fromkeys(NAMES, ("a.md", "b.md"))))
    assert set(attribute_lost(before, after, [], {"a.md", "b.md"})) == {"b.md"}


def test_a_question_whose_own_page_changed_is_lost_to_it() -> None:
    before = scorecard(*answers(1.0, dict.fromkeys(NAMES, ("own.md",))))
    after = scorecard(*answers(0.0, dict.fromkeys(NAMES, ("other.md",))))
    asked = [question(name, docs=("own.md",)) for name in NAMES]
    assert set(attribute_lost(before, after, asked, {"own.md"})) == {"own.md"}


def test_unchanged_documents_and_unchanged_answers_are_never_named() -> None:
    before = scorecard(*answers(1.0, dict.fromkeys(NAMES, ("a.md",))))
    assert attribute_lost(before, scorecard(*answers(0.0, dict.fromkeys(NAMES, ("a.md",)))), [], set()) == {}
    assert attribute_lost(before, before, [], {"a.md"}) == {}


def test_a_gold_passage_that_is_no_longer_found_is_a_lost_question() -> None:
    before, after = scorecard(*answers(1.0, {})), scorecard(*answers(1.0, {}, found=False))
    assert find_lost(before, after) == NAMES


@given(
    st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from(["a", "b", "c", "d"]))), min_size=6, max_size=6),
    st.sets(st.sampled_from(["a", "b", "c", "d"])),
)
def test_every_lost_question_with_a_changed_source_is_attributed_once(
    drawn: list[tuple[bool, set[str]]], changed: set[str]
) -> None:
    before = scorecard(*answers(1.0, {}))
    after = scorecard(
        *(
            graded(name, 0.0 if lost else 1.0, sources=tuple(sorted(sources)), gold_retrieved=True)
            for name, (lost, sources) in zip(NAMES, drawn, strict=True)
        )
    )
    behind = attribute_lost(before, after, [], changed)
    attributed = [name for names in behind.values() for name in names]
    explainable = [name for name, (lost, sources) in zip(NAMES, drawn, strict=True) if lost and sources & changed]
    assert sorted(attributed) == explainable
    assert set(behind) <= changed


def verdict(lost: int, behind: dict[str, tuple[str, ...]], questions: int = 60) -> Verdict:
    """A verdict in which the first `lost` of the questions were lost."""
    before = scorecard(*(graded(f"q{number}", 1.0) for number in range(questions)))
    after = scorecard(*(graded(f"q{number}", float(number >= lost)) for number in range(questions)))
    return judge_candidate(before, after, (), Params()).model_copy(update={"behind": behind})


def test_documents_are_withheld_until_the_losses_are_within_the_tolerance() -> None:
    behind = {"copy.md": tuple(f"q{number}" for number in range(9)), "edited.md": ("q9",)}
    allowed = allowed_losses(60, Params())
    assert allowed == 1
    assert set(choose_withheld(verdict(10, behind), allowed)) == {"copy.md"}
    assert set(choose_withheld(verdict(10, behind), 0)) == {"copy.md", "edited.md"}


def test_nothing_is_withheld_where_more_questions_are_lost_than_documents_explain() -> None:
    assert choose_withheld(verdict(10, {"copy.md": ("q0", "q1")}), 1) == {}
    assert choose_withheld(verdict(0, {}), 1) == {}


def test_the_gate_does_not_count_questions_that_a_person_gave_up() -> None:
    before = scorecard(*(graded(f"q{number}", 1.0, gold_retrieved=True) for number in range(10)))
    after = scorecard(*(graded(f"q{number}", float(number > 2), gold_retrieved=number > 2) for number in range(10)))
    assert not judge_candidate(before, after, (), Params()).accepted
    excused = judge_candidate(before, after, (), Params(), {"q0", "q1", "q2"})
    assert (excused.accepted, excused.excused) == (True, ("q0", "q1", "q2"))
    assert excused.before == before
    assert not judge_candidate(before, after, (), Params(), {"q0", "q1"}).accepted
