"""Moved documents: those that vanished from the folder and stand in it under another path, edited or not.

A move keeps at least half of a document's content, and differs from other documents like it by its own sentences or by
its name (invariant no-mass-deletion, docs/invariants.md).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from ragtide.pipelines.records.data import Chunk

# The share of a document that a move keeps, as for git's renames.
KEPT = 0.5
# Half of the chunks are enough only with this share of the letters: a short first chunk is not half of a document. Of
# what a document shares with few others, a move keeps this share too.
KEPT_LETTERS = 1 / 3
# A sentence that more new documents share than this leads to none of them.
SHARED_BY = 16
# Names that say nothing without their folder.
NAMELESS = {"index", "_index", "readme"}
_SIGN = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SIGN}]|[^\W{_SIGN}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*+|#>]|\d+[.)]\s))")


@dataclass(frozen=True)
class Page:
    """A document as it is compared: its chunks' digests, and its sentences with their number of letters."""

    chunks: frozenset[str]
    sentences: Mapping[str, int]

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> Page:
        """The page of a document's passages; case, punctuation, markup and line breaks are not compared."""
        by_digest = {
            chunk.digest: (chunk.heading, chunk.text.removeprefix(chunk.heading))
            for chunk in chunks
            if not chunk.is_overview
        }
        texts = (text for heading, body in by_digest.values() for text in (heading, *_SENTENCE_END.split(body)))
        sentences = (" ".join(_WORD.findall(text.casefold())) for text in texts)
        return cls(frozenset(by_digest), {sentence: len(sentence) for sentence in sentences if sentence})

    @cached_property
    def letters(self) -> int:
        return sum(self.sentences.values())

    @cached_property
    def word_pairs(self) -> Counter[tuple[str, str]]:
        """Neighbouring words, counted."""
        words = [word for sentence in self.sentences for word in sentence.split()]
        return Counter(zip(words, [*words[1:], ""], strict=True))

    def kept_in(self, new: Page) -> float:
        """The share of this page that stands in `new` word for word: of its letters, or of its chunks by digest."""
        shared = sum(map(self.sentences.__getitem__, self.sentences.keys() & new.sentences.keys()))
        letters = shared / max(1, self.letters)
        chunks = len(self.chunks & new.chunks) / max(1, len(self.chunks))
        return max(letters, chunks) if letters >= KEPT_LETTERS else letters

    def without(self, before: Page) -> Page:
        """What this page says that it did not say `before`."""
        new = {key: letters for key, letters in self.sentences.items() if key not in before.sentences}
        return Page(self.chunks - before.chunks, new)

    def likeness(self, new: Page) -> float:
        """The share of neighbouring words that both have, of the longer page: 0 to 1."""
        shared = (self.word_pairs & new.word_pairs).total()
        return shared / max(1, self.word_pairs.total(), new.word_pairs.total())


@dataclass(frozen=True)
class Surroundings:
    """What distinguishes a moved document from others like it.

    `staying` are the names of the documents that neither vanished nor are new, `samples` some of them as pages, and
    `known` the names that vanished documents are known to have had since (former name -> name today).
    """

    staying: Sequence[str] = ()
    samples: Sequence[Page] = ()
    known: Mapping[str, str] = field(default_factory=dict)


def find_moves(
    vanished: Mapping[str, Page], new: Mapping[str, Page], around: Surroundings = Surroundings()
) -> dict[str, str]:
    """Pair documents that vanished with new ones (former path -> path today): one to one, the most alike first.

    Each is compared only with those that share a rare sentence or a name, so that the cost grows with the number of
    documents and not with its square.
    """
    frequency = Counter(key for page in (*vanished.values(), *around.samples) for key in page.sentences)
    named = _named_pairs(vanished, new, around)
    ranked = []
    for old, candidate in named | _pairs_by_sentences(vanished, new, frequency):
        is_named = (old, candidate) in named
        if score := _score(vanished[old], new[candidate], None if is_named else frequency):
            ranked.append((-round(score, 2), not is_named, -_common_folders(old, candidate), old, candidate))
    moves: dict[str, str] = {}
    taken: set[str] = set()
    for *_, old, candidate in sorted(ranked):
        if old not in moves and candidate not in taken:
            moves[old] = candidate
            taken.add(candidate)
    return dict(sorted(moves.items()))


def find_absorbed(
    vanished: Mapping[str, Page], grown: Mapping[str, Page], around: Surroundings = Surroundings()
) -> dict[str, str]:
    """Documents that vanished and whose content others have taken up, merged or split -> the one that has most of it.

    `grown` are the new and edited documents, with what they did not say before.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    for name, page in grown.items():
        for sentence in page.sentences:
            holders[sentence].append(name)
    frequency = Counter(key for page in (*vanished.values(), *around.samples) for key in page.sentences)
    absorbed: dict[str, str] = {}
    for old, page in sorted(vanished.items()):
        if not _score(page, Page(frozenset(), dict.fromkeys(page.sentences.keys() & holders.keys(), 0)), frequency):
            continue
        taken: Counter[str] = Counter()
        for sentence, letters in page.sentences.items():
            names = holders.get(sentence, ())
            taken.update(dict.fromkeys(names, letters) if len(names) <= SHARED_BY else {})
        if taken:
            absorbed[old] = min(taken, key=lambda name: (-taken[name], name))
    return absorbed


def _score(old: Page, new: Page, frequency: Mapping[str, int] | None) -> float:
    """How much of a document a new one keeps; 0 where that is too little, or where nothing but others share it.

    `frequency` (sentence -> documents that have it) is None for a pair with a name of its own.
    """
    kept = old.kept_in(new)
    if frequency is None:
        kept = max(kept, old.likeness(new)) if kept < KEPT else kept
    elif kept >= KEPT:
        weights = {key: letters / frequency[key] ** 2 for key, letters in old.sentences.items()}
        own = sum(weights[key] for key in weights.keys() & new.sentences.keys())
        kept = kept if own >= KEPT_LETTERS * sum(weights.values()) else 0.0
    return kept if kept >= KEPT else 0.0


def _named_pairs(vanished: Mapping[str, Page], new: Mapping[str, Page], around: Surroundings) -> set[tuple[str, str]]:
    """Pairs that have a name in common which no other document has, or that are known."""
    olds, added, elsewhere = (_by_name(names) for names in (vanished, new, around.staying))
    unique = (name for name in olds if len(olds[name]) == len(added.get(name, ())) == 1 and name not in elsewhere)
    pairs = {(olds[name][0], added[name][0]) for name in unique}
    return pairs | {(old, name) for old, name in around.known.items() if old in vanished and name in new}


def _by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for name in _names(path):
            named[name].append(path)
    return named


def _names(path: str) -> Iterator[str]:
    """The name of a file without its ending; the same below one and below two of its folders."""
    parts = PurePosixPath(path.casefold()).with_suffix("").parts
    if parts[-1] in NAMELESS and len(parts) > 1:
        parts = parts[:-1]
    return ("/".join(parts[-length:]) for length in range(1, min(3, len(parts)) + 1))


def _pairs_by_sentences(
    vanished: Mapping[str, Page], new: Mapping[str, Page], frequency: Mapping[str, int]
) -> set[tuple[str, str]]:
    """Pairs that share a sentence which few others have."""
    holders: dict[str, list[str]] = defaultdict(list)
    for name, page in new.items():
        for key in page.sentences:
            if key in frequency:
                holders[key].append(name)
    rare = {key: names for key, names in holders.items() if max(len(names), frequency[key]) <= SHARED_BY}
    return {(old, name) for old, page in vanished.items() for key in page.sentences for name in rare.get(key, ())}


def _common_folders(old: str, new: str) -> int:
    return len(set(PurePosixPath(old).parts) & set(PurePosixPath(new).parts))


def _none_earlier() -> Iterable[Mapping[str, str]]:
    return ()


@dataclass(frozen=True)
class DocumentPaths:
    """Where documents are today, by the paths that they had before.

    `documents` are today's (path -> digest). `moves` are those of documents of the live index, `former` those of
    earlier releases, both former path -> path since. `earlier` reads the documents of earlier snapshots, newest first.
    """

    documents: Mapping[str, str] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)
    former: Mapping[str, str] = field(default_factory=dict)
    earlier: Callable[[], Iterable[Mapping[str, str]]] = field(default=_none_earlier, compare=False)

    def moved_to(self, path: str) -> str | None:
        """Today's path of a document that moved, once or several times; None where none is known."""
        seen: set[str] = set()
        waiting = [path]
        while waiting:
            name = waiting.pop()
            if name in self.documents:
                return name if name != path else None
            if name not in seen:
                seen.add(name)
                waiting += [places[name] for places in (self.former, self.moves) if name in places]
        return None

    def current(self, path: str) -> str:
        """Today's path of a document, also of one whose last content is known under another path; else `path`."""
        if path in self.documents:
            return path
        return self.moved_to(path) or self._by_content(path) or path

    def outdated(self, paths: Iterable[str]) -> dict[str, str]:
        """Those of `paths` that are no longer right -> today's."""
        return {path: now for path in sorted(set(paths)) if (now := self.current(path)) != path}

    def former_paths(self) -> dict[str, str]:
        """Every known former path -> today's; a path that another document has taken is none."""
        known = sorted({*self.former, *self.moves} - self.documents.keys())
        return {path: now for path in known if (now := self.moved_to(path))}

    def _by_content(self, path: str) -> str | None:
        last, names = self._contents
        others = sorted(names.get(last.get(path, ""), set()) - {path})
        return next((now for name in others if (now := name if name in self.documents else self.moved_to(name))), None)

    @cached_property
    def _contents(self) -> tuple[Mapping[str, str], Mapping[str, set[str]]]:
        """(path -> the digest that it had last, digest -> the paths that it was under), today's documents included."""
        last: dict[str, str] = {}
        names: dict[str, set[str]] = defaultdict(set)
        for documents in (self.documents, *self.earlier()):
            last = {**documents, **last}
            for name, digest in documents.items():
                names[digest].add(name)
        return last, names
