"""Tests of the prompt format: numbered passages before the last question, earlier turns unchanged."""

from __future__ import annotations

import pytest

from ragtide.pipelines.models.prompts import SYSTEM, conversation_prompt, question_prompt
from ragtide.pipelines.ports import Message

EARLIER = (Message("user", "Hello"), Message("assistant", "Hello. What may I do?"))
ASKED = Message("user", "When?")


def test_a_question_without_passages_stands_alone() -> None:
    assert question_prompt("When?", []) == (ASKED,)


def test_passages_are_numbered_in_their_order_before_the_question() -> None:
    system, user = question_prompt("When?", ["first", "second"])
    assert system == Message("system", SYSTEM)
    assert user == Message("user", "Context:\n[1] first\n\n[2] second\n\nQuestion: When?")


@pytest.mark.parametrize("contexts", [[], ["passage"]])
def test_a_question_is_a_conversation_of_one_turn(contexts: list[str]) -> None:
    assert question_prompt("When?", contexts) == conversation_prompt((ASKED,), contexts)


def test_earlier_turns_stay_as_they_were_and_the_passages_go_into_the_last() -> None:
    system, *earlier, last = conversation_prompt((*EARLIER, ASKED), ["passage"])
    assert system.role == "system"
    assert tuple(earlier) == EARLIER
    assert last.role == "user"
    assert last.content.endswith("Question: When?")
    assert "[1] passage" in last.content


def test_a_conversation_without_passages_is_unchanged() -> None:
    assert conversation_prompt((*EARLIER, ASKED), []) == (*EARLIER, ASKED)


def test_a_conversation_keeps_its_own_system_message() -> None:
    own = Message("system", "Answer in French.")
    prompt = conversation_prompt((own, ASKED), ["passage"])
    assert [turn for turn in prompt if turn.role == "system"] == [own]
    assert prompt[0] == own


@pytest.mark.parametrize("text", ["{braces}", "[1] brackets", "Question: another?", "%s", "line\n\nbreak", ""])
def test_passages_and_questions_are_used_unchanged(text: str) -> None:
    user = question_prompt(text, [text])[-1]
    assert user.content == f"Context:\n[1] {text}\n\nQuestion: {text}"
