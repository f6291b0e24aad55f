"""Answer scorers: format check, exact match, token and JSON F1, shell commands, and support by a passage."""

from __future__ import annotations

import re
import shlex
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import regex

from ragtide.pipelines.data.stated import is_closed_answer, states_answer
from ragtide.pipelines.data.text import NumberSet, holds_answer, json_fields, normalize_text, stated_values
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import measure_mean

# An ordinary pattern takes microseconds, and one like ([a-z]+)+! years.
FORMAT_SECONDS = 1.0


def is_well_formed(answer: str, question: GoldenQuestion) -> bool:
    """Return whether the whole answer matches the question's format; without one, whether it is not blank.

    An answer that is graded by JSON fields must be JSON in any case.
    """
    if question.scorer == "json_f1" and json_fields(answer) is None:
        return False
    if not question.format:
        return bool(answer.strip())
    try:
        return matches_format(question.format, answer)
    except ValueError as problem:
        raise UserError(f"the format of the golden question {question.id!r} {problem}") from problem


def matches_format(pattern: str, answer: str) -> bool:
    """Return whether the whole answer matches a pattern. Raises ValueError where that takes FORMAT_SECONDS."""
    try:
        return bool(regex.fullmatch(pattern, answer, timeout=FORMAT_SECONDS))
    except TimeoutError as problem:
        how = "simplify a repetition of what is repeated itself, such as (a+)+"
        raise ValueError(f"takes more than {FORMAT_SECONDS:g} s to match {len(answer)} characters: {how}") from problem


def grade_answer(answer: str, question: GoldenQuestion) -> float:
    """Return the score (0 to 1) of an answer against the nearest accepted one, by the question's scorer.

    A malformed answer scores 0. One that a judge grades scores 0 until it has (evaluation/evaluator.py).
    """
    if question.scorer == "judge" or not is_well_formed(answer, question):
        return 0.0
    return max(SCORERS[question.scorer](answer, accepted) for accepted in question.answers)


OPERATORS = "();<>|&\n"
# `tar -xzf a.tgz` is not `tar -xfz a.tgz`, and `find . -delete -empty` not `find . -empty -delete`.
LAST_FLAG_IN_PLACE = frozenset({"tar"})
FLAGS_ARE_WORDS = frozenset({"find", "ffmpeg", "java", "openssl"})
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FLAGS = re.compile(r"-[A-Za-z]+")


def exact_match(answer: str, accepted: str) -> float:
    """Return 1 where both texts are equal after Unicode normalization (NFC) and stripping white space."""
    return float(normalize_text(answer).strip() == normalize_text(accepted).strip())


def contains_match(answer: str, accepted: str) -> float:
    """Return 1 where the answer contains the accepted value as a whole (data/text.py)."""
    return float(holds_answer(answer, [accepted]))


def token_f1(answer: str, accepted: str) -> float:
    """Return the F1 of words without case, punctuation and articles, as in SQuAD 1.1 (Rajpurkar et al. 2016)."""
    actual, expected = _tokens(answer), _tokens(accepted)
    if not actual or not expected:
        return float(actual == expected)
    return 2 * (Counter(actual) & Counter(expected)).total() / (len(actual) + len(expected))


def _tokens(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", bare).split()


def json_f1(answer: str, accepted: str) -> float:
    """Return the F1 of JSON leaves: a leaf is correct where both texts have its value at its path; not JSON scores 0.

    The order of keys does not matter, that of list items does. 1 and 1.0 are equal; 1, "1" and true are all different.
    """
    actual, expected = json_fields(answer), json_fields(accepted)
    if actual is None or expected is None:
        return 0.0
    common = sum(path in expected and _equal_leaves(value, expected[path]) for path, value in actual.items())
    return 2 * common / (len(actual) + len(expected))


def _equal_leaves(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def command_match(answer: str, accepted: str) -> float:
    """Return 1 where both are the same shell command, whatever its spacing, quoting and order of adjacent short flags.

    Words are split as by a POSIX shell (shlex) and unquoted: "*.c", '*.c' and \\*.c are equal. Adjacent short flags are
    a set: `-la`, `-al`, `-a -l`. But the last letter of tar's flags may take the next word as its argument, and find's
    flags are words whose order matters. No other reordering is equal: list several commands in a golden line instead.
    A text that a shell could not parse is compared word by word.
    """
    return float(_normalized_words(answer) == _normalized_words(accepted))


def _normalized_words(text: str) -> list[str]:
    lexer = shlex.shlex(text.strip().replace("\\\n", " "), posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    try:
        words = list(lexer)
    except ValueError:
        return text.split()
    parts = groupby(words, lambda word: set(word) <= set(OPERATORS))
    return [word for is_operator, part in parts for word in (part if is_operator else _with_sorted_flags(list(part)))]


def _with_sorted_flags(words: Sequence[str]) -> Iterator[str]:
    """Yield one command's words with each run of adjacent short flags merged and sorted."""
    if words[0] in FLAGS_ARE_WORDS:
        yield from words
        return
    for are_flags, part in groupby(words, lambda word: bool(_FLAGS.fullmatch(word))):
        if are_flags:
            flags = "".join(word[1:] for word in part)
            sortable = len(flags) - (words[0] in LAST_FLAG_IN_PLACE)
            yield "-" + "".join(sorted(flags[:sortable])) + flags[sortable:]
        else:
            yield from part


Score = Callable[[str, str], float]
SCORERS: Mapping[str, Score] = {
    "contains": contains_match,
    "exact": exact_match,
    "token_f1": token_f1,
    "json_f1": json_f1,
    "command": command_match,
}


def summarize_grades(graded: Sequence[GradedAnswer], params: ScoreParams) -> dict[str, Measure]:
    """Return the measures of a scorecard over graded answers, by their field: score, recall and malformed share."""
    retrieved = [float(answer.gold_retrieved) for answer in graded if answer.gold_retrieved is not None]
    return {
        "answer_score": measure_mean([answer.score for answer in graded], params),
        "retrieval_recall": measure_mean(retrieved, params),
        "malformed_share": measure_mean([float(not answer.well_formed) for answer in graded], params),
    }


def supports_answer(text: str, question: GoldenQuestion) -> bool:
    """Return whether a passage supports an accepted answer: literally where it must be quoted, else by all its numbers.

    An answer in free words without a number is therefore supported by every passage of its page. Where the question
    names its passage, that alone supports it; no passage by itself supports a yes or no.
    """
    if question.passage:
        return holds_answer(text, [question.passage])
    if any(map(is_closed_answer, question.answers)):
        return False
    if question.scorer == "contains":
        return holds_answer(text, question.answers)
    if question.scorer == "exact":
        return any(all(holds_answer(text, [value]) for value in stated_values(answer)) for answer in question.answers)
    numbers = NumberSet.of(text)
    return bool(text.strip()) and any(numbers.lack(answer, question.question) is None for answer in question.answers)


def documents_support(texts: Sequence[str], question: GoldenQuestion) -> bool:
    """Return whether documents together support an accepted answer, so that the question is in play.

    A passage that the question names must stand in one of them. Neither a judge's answer nor a yes or no need stand in
    them; the items of a list may stand in several, and a date may have another notation (data/stated.py).
    """
    texts = [text for text in texts if text.strip()]
    if question.passage:
        return any(holds_answer(text, [question.passage]) for text in texts)
    if question.scorer == "judge" or any(map(is_closed_answer, question.answers)):
        return bool(texts)
    if any(supports_answer(text, question) for text in texts):
        return True
    together = "\n\n".join(texts)
    return any(states_answer(together, answer) for answer in question.answers)
