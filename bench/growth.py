"""Growth of computing time with the length of text, of every pattern and every loop that reads document text.

Patterns are found by reading the source, so that no new one is forgotten. A text that makes a pattern slow is derived
from the pattern itself: what it matches, repeated, with an end that does not match.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.markdown import tidy_markdown
from ragtide.pipelines.data.formats.office import _replace_pictures
from ragtide.pipelines.data.reading.sections import cut_text
from ragtide.pipelines.data.text import (
    NumberSet,
    holds_answer,
    json_fields,
    normalize_text,
    require_whole_characters,
    split_words,
)
from ragtide.pipelines.evidence.drift import _words
from ragtide.pipelines.evidence.sentences import plain_text, read_sentences, tidy_text
from ragtide.pipelines.index.chunking import text_digest
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.pairs import _normalized, _replace_roles

ROOT = Path(__file__).parent.parent
SMALL = 1_000


@dataclass(frozen=True)
class Sizes:
    """Sizes of texts in characters: all texts are tried at `middle`, the slowest of them at `large`."""

    middle: int
    large: int


PATTERN_SIZES = Sizes(64_000, 1_000_000)
# Loops in Python take some hundred times longer than patterns.
LOOP_SIZES = Sizes(16_000, 256_000)
# A measurement of less computing time says nothing about growth.
LEAST_SECONDS = 0.005
# At the middle size, a function of quadratic growth takes longer: no more is needed to see it.
MOST_SECONDS = 0.1
SLOWEST_FAMILIES = 2
ATOMS = (
    *(
        " ",
        "\n",
        " \n",
        "\t",
        "|",
        "| ",
        "|-|\n",
        "-",
        "- ",
        "--",
        "[",
        "]",
        "![",
        "[](",
        "](",
        "(",
        ")",
        '"',
        "'",
        "`",
    ),
    *("```", "~", "a", "a ", "A", "a. ", ".", "0", "0.", "0 ", "<", ">", "> ", "<!--", "-->", "<a ", "</a", "&", "#"),
    *('<a b="', "<a/"),
    *("# ", "=", "*", "**", "_", "+", ":", ":a", ":a:", "/", "//", "\\", "\\u", "{", "}", '{"a":', ",", ",0", ";"),
    *("1. ", "é", "\u0301", "\u0301\u0323", "中", "。", "\u2028", "-a", "- a\n", "a|b\n", "a:1\n", "http://", "@"),
)
ENDS = ("", "\0", "x", "\n", "!")
EXHAUSTIVE = {"search", "finditer", "findall", "sub", "subn", "split"}


@dataclass(frozen=True)
class UsedPattern:
    """A pattern as it is used: where it is written, the method that applies it, and the compiled pattern."""

    where: str
    method: str
    pattern: re.Pattern[str]

    @property
    def name(self) -> str:
        return f"{self.where} {self.method} {self.pattern.pattern}"

    def apply(self, text: str) -> None:
        """Do to a text what the code does, to its end."""
        if self.method in EXHAUSTIVE:
            for _ in self.pattern.finditer(text):
                pass
        else:
            getattr(self.pattern, self.method)(text)


# --- patterns in the source --------------------------------------------------------------------------------


def used_patterns() -> tuple[list[UsedPattern], list[str]]:
    """Every pattern in flows/ and pipelines/ by its uses, and the calls whose pattern depends on a value."""
    used: list[UsedPattern] = []
    dynamic: list[str] = []
    for path in sorted(path for folder in ("flows", "pipelines") for path in (ROOT / folder).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "re." in source and "import re" in source:
            name = ".".join(("ragtide", *path.relative_to(ROOT).with_suffix("").parts))
            _collect(name, ast.parse(source), used, dynamic)
    return used, dynamic


def _collect(name: str, tree: ast.Module, used: list[UsedPattern], dynamic: list[str]) -> None:
    constants = {
        target.id: node.value.args
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_re_call(node.value, "compile")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    namespace = vars(importlib.import_module(name))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, method = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and owner.id in constants:
            used.append(UsedPattern(name, method, namespace[owner.id]))
        elif _is_re_call(node) and method not in ("compile", "escape"):
            try:
                arguments = [eval(ast.unparse(node.args[0]), dict(namespace))]
            except NameError:
                dynamic.append(f"{name}: {ast.unparse(node)}")
                continue
            flags = [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
            value = eval(ast.unparse(flags[0]), dict(namespace)) if flags else 0
            used.append(UsedPattern(name, method, re.compile(arguments[0], value)))
    compiled = {id(args) for args in constants.values()}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_re_call(node, "compile"))
    dynamic.extend(f"{name}: {ast.unparse(call)}" for call in calls if id(call.args) not in compiled)


def _is_re_call(node: ast.Call, method: str | None = None) -> bool:
    function = node.func
    is_re = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re"
    return is_re and method in (None, function.attr)  # type: ignore[union-attr]


# --- hostile texts --------------------------------------------------------------------------------


def hostile_texts(pattern: re.Pattern[str] | None = None) -> Iterator[tuple[str, Callable[[int], str]]]:
    """(name, function from a size to a text): atoms repeated, and near misses of a pattern."""
    near = dict.fromkeys(_near_misses(pattern)) if pattern else {}
    for prefix, unit in [("", atom) for atom in ATOMS] + list(near):
        for end in ENDS if (prefix, unit) in near else ("x",):
            yield repr((prefix, unit, end)), partial(_repeated, prefix, unit, end)


def _repeated(prefix: str, unit: str, end: str, size: int) -> str:
    return prefix + unit * (size // len(unit)) + end


def _near_misses(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(what comes before, what is repeated) for each repetition in a pattern, and for the pattern as a whole."""
    tree = list(re._parser.parse(pattern.pattern, pattern.flags))  # type: ignore[attr-defined]
    yield from _repetitions(tree, "")
    whole = _example(tree)
    for unit in {whole, whole[:-1], whole[1:], whole[: len(whole) // 2], whole + "\n", "\n" + whole} - {""}:
        yield "", unit


def _repetitions(tree: list[Any], before: str) -> Iterator[tuple[str, str]]:
    for kind, value in tree:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            for unit in _examples(list(value[2])):
                if unit:
                    yield before, unit
                    yield "", before + unit * 3
            yield from _repetitions(list(value[2]), before)
        elif name == "SUBPATTERN":
            yield from _repetitions(list(value[3]), before)
        elif name == "BRANCH":
            for branch in value[1]:
                yield from _repetitions(list(branch), before)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repetitions(list(value[1]), before)
        before += _example([(kind, value)])


def _examples(tree: list[Any]) -> Iterator[str]:
    """Texts that a part matches: one for each member of a set that it begins with."""
    if len(tree) == 1 and str(tree[0][0]) == "IN":
        yield from {_example([("IN", [member])]) for member in tree[0][1] if str(member[0]) != "NEGATE"} or {"a"}
    yield _example(tree)


CATEGORIES = {
    **{"CATEGORY_SPACE": " ", "CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a"},
    **{"CATEGORY_NOT_SPACE": "a", "CATEGORY_NOT_DIGIT": "a", "CATEGORY_NOT_WORD": "-"},
}


def _example(tree: list[Any]) -> str:
    """A short text that a parsed pattern matches, but for what it looks at around it."""
    text = ""
    for kind, value in tree:
        name = str(kind)
        if name == "LITERAL":
            text += chr(value)
        elif name in ("ANY", "NOT_LITERAL"):
            text += "a"
        elif name == "IN":
            text += _member(value)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            text += _example(list(value[2])) * max(1, min(int(value[0]), 40))
        elif name == "SUBPATTERN":
            text += _example(list(value[3]))
        elif name == "BRANCH":
            text += _example(list(value[1][0]))
        elif name == "GROUPREF":
            text += text[:1]
    return text


def _member(members: list[Any]) -> str:
    if str(members[0][0]) == "NEGATE":
        excluded = re.compile("|".join(re.escape(_member([member])) for member in members[1:]))
        return next(letter for letter in "a-0 <" if not excluded.fullmatch(letter))
    kind, value = members[0]
    if str(kind) == "RANGE":
        return chr(value[0])
    return chr(value) if str(kind) == "LITERAL" else CATEGORIES.get(str(value), "a")


# --- growth --------------------------------------------------------------------------------------------------------


def growth_exponent(
    function: Callable[[str], object], texts: Iterable[tuple[str, Callable[[int], str]]], sizes: Sizes
) -> tuple[float, str]:
    """(the largest exponent of computing time in the size of text, the name of that text).

    Measured up to the large size, or to a smaller one where the text takes too long.
    """
    slowest = sorted(((_seconds(function, make, sizes), name, make) for name, make in texts), key=lambda row: -row[0])
    return max((_exponent(function, make, sizes), name) for _, name, make in slowest[:SLOWEST_FAMILIES])


def _seconds(function: Callable[[str], object], make: Callable[[int], str], sizes: Sizes) -> float:
    """Computing time at the middle size, or what it is at least: smaller sizes come first."""
    size = SMALL
    while True:
        seconds = _measure(function, make(size))
        if size >= sizes.middle or seconds > MOST_SECONDS:
            return seconds * sizes.middle / size
        size *= 4


def _exponent(function: Callable[[str], object], make: Callable[[int], str], sizes: Sizes) -> float:
    """The smaller of two exponents: of a sixteenth and a quarter of the text, and of a quarter and the whole.

    What is quadratic is so in both; where a cache is full, the time of a linear function jumps in one of them.
    """
    size = SMALL
    while size < sizes.large and _measure(function, make(size)) < MOST_SECONDS:
        size *= 4
    # The least of several measurements, in turns: a loaded machine only adds time, and adds it in phases.
    texts = [make(size // part) for part in (16, 4, 1)]
    measured = [[_measure(function, text) for text in texts] for _ in range(3)]
    least = (LEAST_SECONDS / part for part in (16, 4, 1))
    seconds = [max(min(column), floor) for column, floor in zip(zip(*measured, strict=True), least, strict=True)]
    return min(log(after / before, 4) for before, after in pairwise(seconds))


def _measure(function: Callable[[str], object], text: str) -> float:
    """Seconds of computing time, without the garbage collector, whose rare full passes come at sizes of their own."""
    gc.disable()
    try:
        start = time.process_time()
        function(text)
        return time.process_time() - start
    finally:
        gc.enable()


# --- loops over text -----------------------------------------------------------------------------------------------


def _convert(name: str) -> Callable[[str], object]:
    return lambda text: _result_of(lambda: convert_document(name, text.encode()))


def _result_of(read: Callable[[], object]) -> object:
    try:
        return read()
    except DocumentError as problem:
        return problem


def _cut(name: str) -> Callable[[str], object]:
    return lambda text: list(cut_text(name, text, 160))


def _sentences(text: str) -> object:
    chunk = Chunk(document="a.md", position=0, heading=text[:100], text=text, digest="", document_digest="")
    return read_sentences({"a.md": [chunk]})


def _whole_characters(text: str) -> object:
    try:
        return require_whole_characters(json.dumps(text) + text)
    except ValueError as problem:
        return problem


# Markdown and HTML are parsed by libraries: what is slow in them is bounded by the deadline of the reading processes.
READING_FUNCTIONS: dict[str, Callable[[str], object]] = {
    **{f"convert {ending}": _convert(f"a{ending}") for ending in (".md", ".html", ".csv", ".json", ".jsonl", ".ipynb")},
    "convert .json of texts": lambda text: _convert("a.json")(json.dumps([{"title": text, "a": text}])),
    "convert .json of members": lambda text: _convert("a.json")(json.dumps({key: [{"a": 1}] for key in text.split()})),
    "convert .ipynb of code": lambda text: _convert("a.ipynb")(
        json.dumps({"cells": [{"cell_type": "code", "source": [text]}]})
    ),
    **{f"cut {ending}": _cut(f"a{ending}") for ending in (".rst", ".txt")},
    "cut below a heading": lambda text: _cut("a.rst")(f"{text[:100]}\n===\n\n{text}"),
    "tidy Markdown": tidy_markdown,
    "replace pictures": _replace_pictures,
    "replace roles": _replace_roles,
    "digest": text_digest,
    "normalize": normalize_text,
    "split words": lambda text: list(split_words(text)),
    "numbers": lambda text: NumberSet.of(text).lack("1.2.3 and 4,000", ""),
    "hold an answer": lambda text: holds_answer(text, ["a a b", "0", "1.2", "a", "0 0 1", "é"]),
    "hold itself": lambda text: holds_answer(text[:1000], [text, text[:900]]),
    "fields": json_fields,
    "whole characters": _whole_characters,
    "tidy text": tidy_text,
    "plain text": plain_text,
    "sentences": _sentences,
    "vocabulary": _words,
    "normalized question": _normalized,
}
