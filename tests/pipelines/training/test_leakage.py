"""Tests of leak detection: rephrased golden questions, questions with other values, order and symmetry."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.training.leakage import ROWS, Leak, find_leaks

law = settings(derandomize=True, deadline=None)
GOLDEN = ["When does Quill 1.2 reach end of life?", "List all files below /var/log that are empty"]
NAMES = st.sampled_from(["Quill", "Anvil", "Node.js", "iPadOS", "iOS", "Alpine Linux"])
VERSIONS = st.tuples(st.integers(0, 30), st.integers(0, 30))
TEXTS = st.text(max_size=40)


def leak(question: str, similarity: float = 0.9) -> Leak | None:
    [leaked] = find_leaks([question], GOLDEN, similarity)
    return leaked


def test_an_identical_question_is_a_leak() -> None:
    assert find_leaks(GOLDEN, GOLDEN, 0.9) == [Leak(text, 1.0) for text in GOLDEN]


@pytest.mark.parametrize(
    "question",
    [
        "when does quill 1.2 reach end of life",
        "When does Quill v1.2 reach its end of life?",
        "When does Quill 1.2 reach end-of-life?",
        "Quill 1.2: when does it reach end of life?",
        "Please: When does Quill 1.2 reach end of life?",
        "  When  does\nQuill 1.2 reach end of life ??",
        "List all the files below /var/log that are empty.",
    ],
)
def test_the_same_question_in_other_words_is_a_leak(question: str) -> None:
    leaked = leak(question)
    assert leaked is not None
    assert 0.9 <= leaked.similarity <= 1


@pytest.mark.parametrize(
    "question",
    [
        "When does Quill 1.3 reach end of life?",
        "When does Quill reach end of life?",
        "When does Quills 1.2 reach end of life?",
        "When does Squill 1.2 reach end of life?",
        "When does Quill 1.2 LTS reach end of life?",
        "When was Quill 1.2 released?",
        "List all files below /var/lib that are empty",
        'List all files below /var/log that are "empty"x',
        "",
    ],
)
def test_a_similar_question_with_other_values_is_no_leak(question: str) -> None:
    assert leak(question) is None


@law
@given(NAMES, NAMES, VERSIONS, VERSIONS)
def test_questions_of_one_form_leak_only_with_equal_values(
    name: str, other: str, version: tuple[int, int], another: tuple[int, int]
) -> None:
    form = "What is the latest release of {} {}.{}, and since when is it available from the usual places?"
    [leaked] = find_leaks([form.format(name, *version)], [form.format(other, *another)], 0.9)
    assert (leaked is not None) == ((name, version) == (other, another))


def test_a_name_at_the_beginning_is_no_value() -> None:
    # The first word is always capitalized, so a name cannot be distinguished from "When".
    [leaked] = find_leaks(
        ["Quills 1.2 reaches its end of life when?"], ["Quill 1.2 reaches its end of life when?"], 0.9
    )
    assert leaked is not None


def test_the_most_similar_golden_question_is_reported() -> None:
    golden = ["When does Quill 1.2 come to its end of life?", "When does Quill 1.2 come to the end of life?"]
    [leaked] = find_leaks(["When does Quill 1.2 come to the end of life"], golden, 0.8)
    assert leaked == Leak(golden[1], 1.0)


def test_the_similarity_threshold_is_a_parameter() -> None:
    question = "When will Quill 1.2 have reached its end of life?"
    assert leak(question, 0.9) is None
    leaked = leak(question, 0.6)
    assert leaked is not None
    assert 0.6 <= leaked.similarity < 0.9


def test_without_golden_questions_nothing_leaks() -> None:
    assert find_leaks(["When?", "Where?"], [], 0.9) == [None, None]
    assert find_leaks([], GOLDEN, 0.9) == []


def test_many_questions_are_compared_in_their_order() -> None:
    questions = [f"What is {number}?" for number in range(ROWS + 2)]
    leaks = find_leaks(questions, [questions[-1], questions[3]], 0.9)
    assert [position for position, leaked in enumerate(leaks) if leaked] == [3, ROWS + 1]


@law
@given(TEXTS, TEXTS)
def test_leaks_are_symmetric(first: str, second: str) -> None:
    [forward], [backward] = find_leaks([first], [second], 0.7), find_leaks([second], [first], 0.7)
    assert (forward is None) == (backward is None)
    assert find_leaks([first], [first], 1.0) == [Leak(first, 1.0)]
