"""How right is an answer, and how sure is a score? Pure functions: grading, and bootstrap intervals."""

from __future__ import annotations

import re
import shlex
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ragtide.pipelines.data.text import NumberSet, holds_answer, json_fields, stated_values
from ragtide.pipelines.records.evaluation import GoldenQuestion


def is_well_formed(answer: str, question: GoldenQuestion) -> bool:
    """Whether the whole answer has the question's format; without one, every answer that is not empty has it.

    What is graded by JSON fields has to be JSON in any case.
    """
    if question.scorer == "json_f1" and json_fields(answer) is None:
        return False
    return bool(re.fullmatch(question.format, answer)) if question.format else bool(answer.strip())


def grade_answer(answer: str, question: GoldenQuestion) -> float:
    """How near the answer is to a right one, 0 to 1, by the question's scorer; 0 in another than the right format.

    What a judge is to grade is 0 until it has (evidence/gather.py).
    """
    if question.scorer == "judge" or not is_well_formed(answer, question):
        return 0.0
    return max(SCORERS[question.scorer](answer, right) for right in question.answers)


OPERATORS = "();<>|&\n"
# `tar -xzf a.tgz` is not `tar -xfz a.tgz`, and `find . -delete -empty` not `find . -empty -delete`.
LAST_FLAG_STAYS = frozenset({"tar"})
FLAGS_ARE_WORDS = frozenset({"find", "ffmpeg", "java", "openssl"})
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FLAGS = re.compile(r"-[A-Za-z]+")


def exact_match(answer: str, right: str) -> float:
    """1 where both are the same, white space around and Unicode's ways to write a letter aside."""
    return float(unicodedata.normalize("NFC", answer).strip() == unicodedata.normalize("NFC", right).strip())


def contains_match(answer: str, right: str) -> float:
    """1 where the answer holds the right value as a whole (data/text.py)."""
    return float(holds_answer(answer, [right]))


def token_f1(answer: str, right: str) -> float:
    """The F1 of words, without case, punctuation and articles, as SQuAD has it (Rajpurkar et al. 2016, version 1.1)."""
    said, wanted = _tokens(answer), _tokens(right)
    if not said or not wanted:
        return float(said == wanted)
    return 2 * (Counter(said) & Counter(wanted)).total() / (len(said) + len(wanted))


def _tokens(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", bare).split()


def json_f1(answer: str, right: str) -> float:
    """The F1 of a JSON text's leaves: one is right where the same value stands under the same path; not JSON is 0.

    The order of keys does not matter, that of a list's items does; 1 and 1.0 are one value, 1, "1" and true are three.
    """
    said, wanted = json_fields(answer), json_fields(right)
    if said is None or wanted is None:
        return 0.0
    common = sum(path in wanted and _same(value, wanted[path]) for path, value in said.items())
    return 2 * common / (len(said) + len(wanted))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def command_match(answer: str, right: str) -> float:
    """1 where both are the same shell command, whatever the spacing, the quoting and the order of short flags.

    Words are those of a POSIX shell (shlex), rid of their quotes: "*.c", '*.c' and \\*.c are one. Short flags that
    stand together are a set: `-la`, `-al`, `-a -l`; but the last letter of tar's may take the next word, and find's
    are words whose order matters. Nothing else may change its place: a golden line can name several commands. A text
    that no shell could read is compared as it stands.
    """
    return float(_normal(answer) == _normal(right))


def _normal(text: str) -> list[str]:
    reader = shlex.shlex(text.strip().replace("\\\n", " "), posix=True, punctuation_chars=OPERATORS)
    reader.whitespace, reader.commenters, reader.whitespace_split = " \t\r", "", True
    try:
        words = list(reader)
    except ValueError:
        return text.split()
    commands = groupby(words, lambda word: set(word) <= set(OPERATORS))
    return [word for joins, some in commands for word in (some if joins else _with_flags_sorted(list(some)))]


def _with_flags_sorted(words: Sequence[str]) -> Iterator[str]:
    """One command's words."""
    if words[0] in FLAGS_ARE_WORDS:
        yield from words
        return
    for are_flags, some in groupby(words, lambda word: bool(_FLAGS.fullmatch(word))):
        if are_flags:
            flags = "".join(word[1:] for word in some)
            moving = len(flags) - (words[0] in LAST_FLAG_STAYS)
            yield "-" + "".join(sorted(flags[:moving])) + flags[moving:]
        else:
            yield from some


Score = Callable[[str, str], float]
SCORERS: Mapping[str, Score] = {
    "contains": contains_match,
    "exact": exact_match,
    "token_f1": token_f1,
    "json_f1": json_f1,
    "command": command_match,
}


def supports_answer(text: str, question: GoldenQuestion) -> bool:
    """Whether a passage holds an answer: word for word where it is to be quoted, elsewhere by all of its numbers.

    So an answer in words of its own, without a number, is held by every passage of its page.
    """
    if question.scorer == "contains":
        return holds_answer(text, question.answers)
    if question.scorer == "exact":
        return any(all(holds_answer(text, [one]) for one in stated_values(answer)) for answer in question.answers)
    numbers = NumberSet.of(text)
    return bool(text.strip()) and any(numbers.lack(answer, question.question) is None for answer in question.answers)
