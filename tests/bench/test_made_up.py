"""Tests of the made-up streams and of the questions about changed facts: truth, clear-cut labels, and what is asked."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from bench.streams import NAMES, Step, Stream, streams
from bench.streams.__main__ import answers_changed, changes, new_examples
from bench.streams.changed_facts import MOST_ASKED, with_changed_facts
from bench.streams.made_up import MADE_UP
from bench.streams.simulated import UNKNOWN, Reader, Trainer, is_beyond
from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.evaluation.scoring import grade_answer
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.ports import TrainingSample, no_progress
from ragtide.pipelines.records.action import Action
from tests.factories import question


@cache
def made_up() -> dict[str, Stream]:
    return {stream.name: stream for stream in streams(None)}


def steps_of(name: str) -> tuple[Step, ...]:
    return made_up()[name].steps


# --- the streams ---------------------------------------------------------------------------------------------------


def test_the_streams_without_data_are_the_made_up_ones_and_both_splits_have_some() -> None:
    assert tuple(made_up()) == MADE_UP == NAMES[-4:]
    assert {stream.split for stream in made_up().values()} == {"tune", "test"}
    assert all(stream.simulated for stream in made_up().values())


@pytest.mark.parametrize("name", MADE_UP)
def test_every_answer_stands_on_its_page_and_every_example_too(name: str) -> None:
    for step in steps_of(name):
        for asked in (*step.questions, *step.changed_facts):
            assert asked.answers == (UNKNOWN,) or asked.docs
            assert all(holds_answer(step.documents[doc], asked.answers) for doc in asked.docs)
            assert grade_answer(asked.answers[0], asked) == 1
        for line in step.examples:
            assert line["doc"] not in step.documents or holds_answer(step.documents[line["doc"]], [line["completion"]])


@pytest.mark.parametrize("name", MADE_UP)
def test_changed_facts_are_neither_golden_nor_examples_and_bounded(name: str) -> None:
    for step in steps_of(name):
        others = {question.question for question in step.truth} | {line["prompt"] for line in step.examples}
        examples_gone = {line["prompt"] for line in step.examples if line["doc"] not in step.documents}
        asked = {question.question for question in step.changed_facts}
        assert not asked & (others - examples_gone)
        assert len(step.changed_facts) <= MOST_ASKED
        assert step.facts == {}


@pytest.mark.parametrize("name", MADE_UP)
def test_a_refresh_is_right_exactly_where_what_users_can_be_told_changes(name: str) -> None:
    for before, after in pairwise(steps_of(name)):
        is_changed = before.changed_facts != after.changed_facts and {
            (fact.id, fact.answers) for fact in after.changed_facts
        } != {(fact.id, fact.answers) for fact in before.changed_facts}
        assert after.right == frozenset({Action.REFRESH if is_changed else Action.NOTHING})


def test_needles_edit_one_to_three_of_six_hundred_pages_that_no_question_is_about() -> None:
    for before, after in pairwise(steps_of("needles")):
        edited = changes(before, after).edited
        assert (len(after.documents), len(edited) <= 3, answers_changed(before, after)) == (600, True, 0)
        assert all(words_changed(before.documents[path], after.documents[path]) == 1 for path in edited)


def words_changed(before: str, after: str) -> int:
    return sum(old != new for old, new in zip(before.split(), after.split(), strict=True))


def test_every_third_drip_is_cosmetic() -> None:
    steps = steps_of("drip")
    assert len(steps[0].documents) == 2000
    for number, (before, after) in enumerate(pairwise(steps), start=1):
        [path] = changes(before, after).edited
        same = before.documents[path].casefold().split() == after.documents[path].casefold().split()
        assert same == (number % 3 == 0) == (after.right == frozenset({Action.NOTHING}))


def test_golden_lines_follow_the_folders_that_move() -> None:
    for before, after in pairwise(steps_of("moves")):
        assert {doc for asked in after.questions for doc in asked.docs} <= set(after.documents)
        assert {line["doc"] for line in after.examples} <= set(after.documents)
        assert [asked.id for asked in before.questions] == [asked.id for asked in after.questions]


def test_the_pages_of_examples_leave_and_their_lines_stay() -> None:
    for before, after in pairwise(steps_of("people")):
        removed = changes(before, after).removed
        assert {*removed} <= {line["doc"] for line in after.examples}
        assert len(after.examples) - len(before.examples) == new_examples(before, after)
        # Few enough for the deletion guard.
        assert len(removed) <= 3


# --- changed facts -------------------------------------------------------------------------------------------------


def state(**answers: str) -> Step:
    facts = {
        key: question(key, question=f"What is {key}?", answers=(answer,), docs=()) for key, answer in answers.items()
    }
    return Step({}, (), (), (), None, "", facts=facts)


def asked_at(*states: Step) -> list[dict[str, str]]:
    return [{fact.id: fact.answers[0] for fact in step.changed_facts} for step in with_changed_facts(states)]


def test_a_changed_fact_is_asked_for_from_its_change_on() -> None:
    steps = asked_at(state(a="1", b="1"), state(a="2", b="1"), state(a="2", b="1"), state(a="2", b="5"))
    assert steps == [{}, {"a": "2"}, {"a": "2"}, {"b": "5", "a": "2"}]


def test_a_new_fact_is_asked_for_and_one_that_nobody_states_is_not() -> None:
    assert asked_at(state(a="1"), state(a="1", b="1"), state(a="1")) == [{}, {"b": "1"}, {}]


def test_other_words_or_another_form_are_no_change() -> None:
    before, after = state(a="1"), state(a="1")
    worded = {key: fact.model_copy(update={"question": "And a?", "format": r"\d"}) for key, fact in after.facts.items()}
    assert asked_at(before, replace(after, facts=worded)) == [{}, {}]


def test_the_latest_changes_are_asked_for_first() -> None:
    names = [f"f{number:02}" for number in range(MOST_ASKED)]
    first, second = dict.fromkeys(names, "1"), dict.fromkeys(names, "2")
    steps = asked_at(state(a="1", **first), state(a="1", **second), state(a="2", **second))
    assert {*steps[1]} == {*names}
    assert "a" in steps[2]
    assert len(steps[2]) == MOST_ASKED


# --- the simulated model -------------------------------------------------------------------------------------------

STATED = "The filter size of Barude is 45 mm."
ASKED = "What is the filter size of Barude?"


def test_a_fact_is_answered_from_its_passage_in_the_trained_form(tmp_path_factory: pytest.TempPathFactory) -> None:
    adapter = tmp_path_factory.mktemp("adapter") / "new"
    prompt = question_prompt(ASKED, ["The filter size of Other is 11 mm.", f"Data\n{STATED}"])
    assert not is_beyond(ASKED)
    Trainer().train([TrainingSample(prompt, "45 mm")], adapter, no_progress)
    assert Reader().generate([prompt], adapter, lambda _: None) == ["45 mm"]
    assert Reader().generate([prompt], None, lambda _: None) == [STATED.removesuffix(".") + "."]
    assert Reader().generate([question_prompt(ASKED, ["Nothing."])], adapter, lambda _: None) == [UNKNOWN]
