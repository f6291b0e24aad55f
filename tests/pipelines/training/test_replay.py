"""Tests of experience replay: share, deleted, renamed and corrected files, exclusions and even draws."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.corpus import Corpus, KnowledgeBase, ReplayExamples, TrainingSet
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.examples import Example, read_examples
from ragtide.pipelines.training.replay import _draw_evenly, replay_examples
from ragtide.pipelines.workspace import Workspace
from tests.factories import document, md5, workspace, write

Rows = Iterable[dict[str, str]]


def rows(name: str, count: int, answer: str = "yes", **more: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"{name} {number}?", "completion": f"{answer} {name} {number}", **more} for number in range(count)
    ]


def text_of(lines: Rows) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


@dataclass
class Training:
    """A project whose training files change; all earlier versions are in DVC's cache."""

    space: Workspace
    model: BuiltModel

    def put(self, **files: Rows) -> Training:
        """Replace the content of the training folder by these files."""
        for old in self.space.train.glob("*"):
            old.unlink()
        for name, lines in files.items():
            self.cached(write(self.space.train / f"{name}.jsonl", text_of(lines)).read_text(encoding="utf-8"))
        return self

    def cached(self, text: str) -> str:
        digest = md5(text)
        write(self.cache(digest), text)
        return digest

    def cache(self, digest: str) -> Path:
        return self.space.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]

    def trained(self) -> Training:
        """The same project after a training on the current files."""
        corpus = self.corpus()
        files = {**self.model.files, **corpus.snapshot.examples}
        return Training(self.space, self.model.model_copy(update={"files": files}))

    def corpus(self, **pages: str) -> Corpus:
        snapshot = take_snapshot(self.space)
        lines = read_examples(self.space.train, snapshot.examples)
        examples = tuple(line for line in lines if isinstance(line, Example))
        documents = tuple(document(f"{name}.md", text) for name, text in pages.items())
        return Corpus(KnowledgeBase(snapshot, documents, ()), TrainingSet(examples))

    def replayed(self, *golden: str, **pages: str) -> ReplayExamples:
        return replay_examples(self.space, self.model, self.corpus(**pages).current_examples, golden)


def training(root: Path, share: float = 0.2, **blocks: Any) -> Training:
    space = workspace(root, examples={"replay_share": share}, **blocks)
    write(space.kb / "a.md", "# A\n")
    return Training(space, BuiltModel(base="reader-1", adapter="a1", examples="x", settings="s"))


def test_a_share_of_the_examples_comes_from_deleted_files(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).trained().put(shell=rows("shell", 40))
    replay = made.replayed()
    assert len(replay.examples) == 10
    assert {item.question for item in replay.examples} <= {row["prompt"] for row in rows("call", 30)}
    assert replay.files == {"calls.jsonl": md5(text_of(rows("call", 30)))}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.1, 4), (0.5, 30), (0.9, 30)])
def test_the_number_of_replayed_examples_is_limited_by_share_and_supply(
    tmp_path: Path, share: float, expected: int
) -> None:
    made = training(tmp_path, share).put(calls=rows("call", 30)).trained().put(shell=rows("shell", 40))
    assert len(made.replayed().examples) == expected


def test_nothing_is_replayed_while_every_file_exists(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).trained()
    assert made.replayed() == ReplayExamples()
    assert training(tmp_path / "new").put(calls=rows("call", 3)).replayed() == ReplayExamples()


def test_lines_removed_from_an_existing_file_are_not_replayed(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).trained().put(calls=rows("call", 3), shell=rows("shell", 40))
    assert made.replayed() == ReplayExamples()
    emptied = made.put(calls=[], shell=rows("shell", 40))
    assert emptied.replayed() == ReplayExamples()


def test_a_renamed_file_is_not_replayed(tmp_path: Path) -> None:
    made = (
        training(tmp_path).put(calls=rows("call", 30)).trained().put(renamed=rows("call", 20), shell=rows("shell", 9))
    )
    assert made.replayed() == ReplayExamples()


def test_examples_with_new_answers_replace_the_older_ones(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls_v0=rows("call", 30)).trained().put(calls_v5=rows("call", 30, answer="no"))
    assert made.replayed() == ReplayExamples()


def test_current_conversations_are_not_replayed(tmp_path: Path) -> None:
    made = training(tmp_path, 0.5).put(calls=rows("call", 30)).trained()
    made.put(shell=[*rows("shell", 40), *rows("call", 5, answer="no"), *rows("call", 7)[5:]])
    assert {item.completion for item in made.replayed().examples} == {row["completion"] for row in rows("call", 30)[7:]}


def test_a_filtered_current_conversation_is_not_replayed_either(tmp_path: Path) -> None:
    made = training(tmp_path, 0.9).put(calls=rows("call", 9)).trained()
    made.put(shell=[*rows("shell", 9), *rows("call", 1, answer="no"), *rows("call", 1, answer="never")])
    few = TrainingSet(made.corpus().training.examples[:9])
    corpus = Corpus(KnowledgeBase(take_snapshot(made.space), (), ()), few)
    replayed = replay_examples(made.space, made.model, corpus.current_examples, ())
    assert sorted(example.question for example in replayed.examples) == [f"call {number}?" for number in range(1, 9)]


def test_the_last_version_of_a_deleted_file_is_replayed(tmp_path: Path) -> None:
    made = training(tmp_path, 0.9).put(calls=rows("call", 9)).trained()
    made.put(calls=rows("call", 8)[4:])
    snapshot = made.corpus().snapshot
    snapshot.write(made.space.snapshot_file(snapshot.id))
    replay = made.put(shell=rows("shell", 9)).replayed()
    assert sorted(item.question for item in replay.examples) == [f"call {number}?" for number in range(4, 8)]
    assert replay.files == {"calls.jsonl": md5(text_of(rows("call", 8)[4:]))}


def test_stale_leaking_and_orphaned_examples_are_not_replayed(tmp_path: Path) -> None:
    old = [
        {"prompt": "When does Quill end?", "completion": "2027-05-01", "doc": "quill.md"},
        {"prompt": "When does Pen end?", "completion": "2026-01-01", "doc": "pen.md"},
        {"prompt": "When does Ink end?", "completion": "2026-01-01", "doc": "ink.md"},
        {"prompt": "Who writes the golden questions here?", "completion": "You do."},
    ]
    made = training(tmp_path, 0.9).put(old=old).trained().put(shell=rows("shell", 9))
    pages = {"quill": "Quill ends on 2027-05-01.", "pen": "Pen ends on 2028-01-01."}
    replayed = made.replayed("Who writes the golden questions here?", **pages).examples
    assert [item.completion for item in replayed] == ["2027-05-01"]


def test_files_missing_from_the_cache_are_listed_and_the_others_replayed(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30), mails=rows("mail", 30)).trained().put(shell=rows("shell", 40))
    made.cache(md5(text_of(rows("call", 30)))).unlink()
    replay = made.replayed()
    assert replay.missing == ("calls.jsonl",)
    assert {item.question.split()[0] for item in replay.examples} == {"mail"}
    assert set(replay.files) == {"calls.jsonl", "mails.jsonl"}


def test_every_file_is_drawn_from_evenly_however_old_or_large(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 200)).trained().put(mails=rows("mail", 20), tiny=rows("tiny", 2))
    made = made.trained().put(shell=rows("shell", 48))
    counts = Counter(item.question.split()[0] for item in made.replayed().examples)
    assert counts == {"call": 5, "mail": 5, "tiny": 2}


def test_files_versioned_by_dvc_are_found(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 8)).trained()
    shutil.rmtree(made.space.root / ".dvc")
    record_snapshot(made.space)
    made.put(shell=rows("shell", 40))
    assert len(made.replayed().examples) == 8


def example(name: str, number: int) -> Example:
    return Example((Message("user", f"{name} {number}?"),), "yes", None, f"{name}.jsonl:{number}")


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 12)), st.integers(0, 40), st.integers(0, 3))
def test_a_draw_is_even_and_independent_of_the_order(sizes: dict[str, int], limit: int, seed: int) -> None:
    everyone = [example(name, number) for name, count in sizes.items() for number in range(count)]
    drawn = _draw_evenly(everyone, limit, seed)
    assert drawn == _draw_evenly([*reversed(everyone)], limit, seed)
    assert len({*drawn}) == len(drawn) == min(limit, len(everyone))
    counts = Counter(item.where.partition(".")[0] for item in drawn)
    most = max(counts.values(), default=0)
    assert all(counts[name] in (count, most, most - 1) for name, count in sizes.items())
    assert drawn == _draw_evenly(everyone, limit + 1, seed)[:limit]
