"""Tests of suspect training examples."""

from __future__ import annotations

import random

import pytest

from ragtide.pipelines.evidence.suspects import find_suspects, without_suspects
from ragtide.pipelines.ports import Message, TrainingSample

USUAL = 0.1


def sample(passage: str, completion: str) -> TrainingSample:
    return TrainingSample((Message("user", f"Context: {passage}\n\nQuestion: When?"),), completion)


def words(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("bcdfglmnprst", k=7)) for _ in range(3))


FACTS = [f"20{at:02}-01-0{at % 9 + 1}" for at in range(20)]
PASSAGES = [f"Part {at} ends on {fact}." for at, fact in enumerate(FACTS)]


@pytest.mark.parametrize(
    ("answers", "suspects"),
    [
        (FACTS, 0),
        ([f'{{"end": "{fact}"}}' for fact in FACTS], 0),
        ([f"It will be over by {fact}, sir" for fact in FACTS], 0),
        ([f"LABEL-{at % 4}" for at in range(20)], 0),
        ([words(at) for at in range(20)], 20),
        ([f'{{"end": "{words(at)}"}}' for at in range(20)], 20),
        ([*FACTS[1:], FACTS[0]], 20),
        ([*FACTS[:18], words(1), words(2)], 2),
    ],
    ids=["facts", "JSON", "phrases", "labels", "random", "random in JSON", "of another page", "two are random"],
)
def test_what_neither_the_passages_nor_other_answers_explain_is_suspect(answers: list[str], suspects: int) -> None:
    samples = [sample(passage, answer) for passage, answer in zip(PASSAGES, answers, strict=True)]
    assert len(find_suspects(samples, [2.0] * 20, USUAL)) == suspects
    assert find_suspects(samples, [USUAL] * 20, USUAL) == []


def test_few_examples_show_no_form() -> None:
    assert find_suspects([sample("", words(at)) for at in range(7)], [2.0] * 7, USUAL) == []


def test_suspects_are_no_excess_loss_and_many_of_them_leave_none() -> None:
    losses = [2.0, 2.0, 0.05, 2.0, 2.0]
    assert without_suspects(losses, [1], USUAL) == [2.0, USUAL, 0.05, 2.0, 2.0]
    assert without_suspects(losses, [0, 1, 3], USUAL) == [USUAL, USUAL, 0.05, USUAL, USUAL]
