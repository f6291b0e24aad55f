"""Tests of the answer scorers: exact, contains, token F1, JSON F1, commands, and support by a passage."""

from __future__ import annotations

import json
import random
import shlex
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evaluation.scoring import (
    SCORERS,
    command_match,
    contains_match,
    exact_match,
    json_f1,
    supports_answer,
    token_f1,
)
from ragtide.pipelines.records.evaluation import ScorerName
from tests.factories import question

law = settings(derandomize=True, deadline=None)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "1", ""])
JSONS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
WORDS = st.sampled_from(["ls", "-l", "-la", "x y", "*.c", "a'b", "file", "5"])
SYMMETRIC = [exact_match, token_f1, json_f1, command_match]


def test_every_scorer_name_has_a_function_except_the_judge() -> None:
    assert {*SCORERS, "judge"} == set(get_args(ScorerName))


@law
@given(TEXTS | JSONS.map(json.dumps), TEXTS | JSONS.map(json.dumps))
def test_a_score_is_between_0_and_1(answer: str, right: str) -> None:
    assert all(0 <= scorer(answer, right) <= 1 for scorer in SCORERS.values())


@law
@given(TEXTS | JSONS.map(json.dumps), TEXTS | JSONS.map(json.dumps))
def test_symmetric_scorers_do_not_depend_on_the_order(first: str, second: str) -> None:
    assert all(scorer(first, second) == scorer(second, first) for scorer in SYMMETRIC)


@law
@given(TEXTS)
def test_the_right_answer_itself_has_the_full_score(text: str) -> None:
    assert exact_match(text, text) == token_f1(text, text) == command_match(text, text) == 1
    if text.strip():
        assert contains_match(text, text) == 1


# --- exact, contains -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "score"),
    [("42", 1), (" 42\n", 1), ("42.", 0), ("It is 42", 0), ("4 2", 0), ("", 0)],
)
def test_exact_is_all_or_nothing(answer: str, score: int) -> None:
    assert exact_match(answer, "42") == score


def test_exact_respects_case_but_not_unicode_composition() -> None:
    assert exact_match("Caf\u00e9", "Cafe\u0301") == 1
    assert exact_match("caf\u00e9", "Caf\u00e9") == 0


def test_contains_finds_the_value_in_a_sentence() -> None:
    assert contains_match("It is 42.", "42") == 1
    assert contains_match("It is 421.", "42") == 0


# --- token F1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("The cat.", "a CAT", 1),
        ("the black cat", "the cat", 2 / 3),
        ("black cat", "white dog", 0),
        ("cat cat", "cat", 2 / 3),
        ("", "cat", 0),
        ("the", "a", 1),
        ("on 1 May 2026", "1 May 2026", 6 / 7),
    ],
)
def test_token_f1_counts_common_words_as_squad_does(answer: str, right: str, score: float) -> None:
    assert token_f1(answer, right) == pytest.approx(score)


@law
@given(st.lists(st.sampled_from(["cat", "dog", "black", "runs"]), max_size=6), st.randoms(use_true_random=False))
def test_token_f1_is_full_exactly_for_the_same_words_in_any_order(words: list[str], chance: random.Random) -> None:
    mixed = chance.sample(words, len(words))
    assert token_f1(" ".join(mixed), " ".join(words)) == 1
    assert token_f1(" ".join([*words, "more"]), " ".join(words)) < 1


# --- JSON F1 ---------------------------------------------------------------------------------------------------------

CALL = '{"service": "Trains_1", "slots": {"from": "LAX", "to": "San Diego"}, "requested": ["time"]}'


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (CALL, 1),
        (json.dumps(json.loads(CALL), indent=2), 1),
        ('{"requested": ["time"], "slots": {"to": "San Diego", "from": "LAX"}, "service": "Trains_1"}', 1),
        (CALL.replace("LAX", "SFO"), 6 / 8),
        (CALL.replace(', "requested": ["time"]', ""), 6 / 7),
        (CALL.replace('["time"]', "[]"), 6 / 8),
        (CALL.replace('["time"]', '["time", "price"]'), 8 / 9),
        (CALL.replace("Trains_1", "Trains_15").replace('"to"', '"arrival"'), 4 / 8),
        (CALL[:-1], 0),
        (f"Sure! {CALL}", 0),
        ("", 0),
    ],
)
def test_json_f1_counts_the_leaves_that_are_right(answer: str, score: float) -> None:
    assert json_f1(answer, CALL) == pytest.approx(score)


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [("1", "1.0", 1), ("1", "true", 0), ("0", "false", 0), ('"1"', "1", 0), ("{}", "[]", 0), ("1.10", "1.1", 1)],
)
def test_json_values_of_different_types_differ(first: str, second: str, score: float) -> None:
    assert json_f1(first, second) == score


def plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@law
@given(JSONS, JSONS)
def test_json_f1_is_full_exactly_for_equal_values(first: Any, second: Any) -> None:
    assert (json_f1(json.dumps(first), json.dumps(second)) == 1) == (plain(first) == plain(second))


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ls -la /tmp", "ls  -al   /tmp "),
        ("ls -l -a /tmp", "ls -al /tmp"),
        ('find . -name "*.c"', "find . -name '*.c'"),
        ('find . -name "*.c"', r"find . -name \*.c"),
        ("ls|wc -l", "ls | wc -l"),
        ("ls>out;pwd", "ls > out ; pwd"),
        ("rm -rf x && ls -a -l", "rm -fr x&&ls -la"),
        ("ls -la \\\n  /tmp", "ls -la /tmp"),
        ("tar -xzf a.tgz", "tar -zxf a.tgz"),
        ("echo \"it's", "echo  \"it's"),
    ],
)
def test_equivalent_spellings_of_a_command_match(first: str, second: str) -> None:
    assert command_match(first, second) == command_match(second, first) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ls -la /tmp", "ls -l /tmp"),
        ("ls -l /tmp", "ls -L /tmp"),
        ("ls /tmp -l", "ls -l /tmp"),
        ("tar -xzf a.tgz", "tar -xfz a.tgz"),
        ("find . -empty -delete", "find . -delete -empty"),
        ("cp a b", "cp b a"),
        ("echo 'a b'", "echo a b"),
        ("ls; pwd", "ls && pwd"),
        ("ls\npwd", "ls pwd"),
        ("ls # all", "ls"),
        ("head -n5 x", "head -5n x"),
        ("ls -l", "You can use ls -l"),
        ("", "ls"),
    ],
)
def test_different_commands_differ(first: str, second: str) -> None:
    assert command_match(first, second) == command_match(second, first) == 0


@law
@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from([" ", "   ", "\t"]))
def test_spacing_and_quotes_do_not_make_another_command(words: list[str], space: str) -> None:
    assert command_match(shlex.join(words), space.join(f'"{word}"' for word in words)) == 1


@law
@given(st.lists(WORDS, max_size=4), st.permutations("abc"), st.lists(WORDS, max_size=4))
def test_the_order_of_adjacent_flags_does_not_matter(before: list[str], flags: list[str], behind: list[str]) -> None:
    commands = [
        ["ls", *before, *flag_words, *behind]
        for flag_words in (["-abc"], [f"-{''.join(flags)}"], [f"-{x}" for x in flags])
    ]
    assert command_match(shlex.join(commands[0]), shlex.join(commands[1])) == 1
    assert command_match(shlex.join(commands[0]), shlex.join(commands[2])) == 1


# --- passages --------------------------------------------------------------------------------------------------------

PASSAGE = "Quill 1.2 ends on 2026-05-01."


@pytest.mark.parametrize(
    ("scorer", "answer", "supported"),
    [
        ("contains", "2026-05-01", True),
        ("contains", "1 May 2026", False),
        ("exact", "2026-05-01", True),
        ("exact", '{"end": "2026-05-01"}', True),
        ("exact", '{"end": "2027-05-01"}', False),
        ("json_f1", '{"end": "2026-05-01", "over": false}', True),
        ("json_f1", '{"end": "2027-05-01", "over": false}', False),
        ("token_f1", "It will be over on 1 May 2026", True),
        ("token_f1", "It will be over on 1 May 2027", False),
        ("command", "quill --until 2026-05-01", True),
        ("token_f1", "Soon.", True),
    ],
)
def test_a_passage_supports_an_answer_that_it_states(scorer: ScorerName, answer: str, supported: bool) -> None:
    assert supports_answer(PASSAGE, question(answers=(answer,), scorer=scorer)) is supported


@pytest.mark.parametrize("scorer", get_args(ScorerName))
def test_nothing_supports_no_answer(scorer: ScorerName) -> None:
    assert not supports_answer(" ", question(answers=("{}",), scorer=scorer))


def test_one_of_several_answers_is_enough_to_support() -> None:
    golden = question(answers=("in 2030", "in 2026"), scorer="token_f1")
    assert supports_answer("2026", golden)
    assert not supports_answer("2029", golden)
