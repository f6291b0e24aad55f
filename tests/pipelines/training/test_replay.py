"""Does a model learn once more what files that are gone have taught it, and nothing that was taken out or corrected?"""

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
from ragtide.pipelines.training.replay import _evenly, replay_examples
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
    """A project whose training files come and go; what was there once lies in DVC's cache."""

    space: Workspace
    model: BuiltModel

    def put(self, **files: Rows) -> Training:
        """The training folder holds these files alone."""
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

    def learnt(self) -> Training:
        """The live model has learnt from what the folder holds now."""
        corpus = self.corpus()
        files = {**self.model.files, **corpus.snapshot.examples}
        return Training(self.space, self.model.model_copy(update={"files": files}))

    def corpus(self, **pages: str) -> Corpus:
        snapshot = take_snapshot(self.space)
        lines = read_examples(self.space.train, snapshot.examples)
        examples = tuple(one for one in lines if isinstance(one, Example))
        documents = tuple(document(f"{name}.md", text) for name, text in pages.items())
        return Corpus(KnowledgeBase(snapshot, documents, ()), TrainingSet(examples))

    def older(self, *golden: str, **pages: str) -> ReplayExamples:
        return replay_examples(self.space, self.model, self.corpus(**pages).current_examples, golden)


def training(root: Path, share: float = 0.2, **blocks: Any) -> Training:
    space = workspace(root, examples={"replay_share": share}, **blocks)
    write(space.kb / "a.md", "# A\n")
    return Training(space, BuiltModel(base="reader-1", adapter="a1", examples="x", settings="s"))


def test_a_share_of_the_lessons_comes_from_files_that_are_gone(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).learnt().put(shell=rows("shell", 40))
    older = made.older()
    assert len(older.examples) == 10
    assert {one.question for one in older.examples} <= {row["prompt"] for row in rows("call", 30)}
    assert older.files == {"calls.jsonl": md5(text_of(rows("call", 30)))}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.1, 4), (0.5, 30), (0.9, 30)])
def test_there_are_no_more_than_the_share_says_and_no_more_than_there_are(
    tmp_path: Path, share: float, expected: int
) -> None:
    made = training(tmp_path, share).put(calls=rows("call", 30)).learnt().put(shell=rows("shell", 40))
    assert len(made.older().examples) == expected


def test_nothing_is_replayed_while_every_file_is_there(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).learnt()
    assert made.older() == ReplayExamples()
    assert training(tmp_path / "new").put(calls=rows("call", 3)).older() == ReplayExamples()


def test_what_a_file_that_stays_has_lost_was_taken_out(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).learnt().put(calls=rows("call", 3), shell=rows("shell", 40))
    assert made.older() == ReplayExamples()
    emptied = made.put(calls=[], shell=rows("shell", 40))
    assert emptied.older() == ReplayExamples()


def test_a_file_under_another_name_is_no_file_that_is_gone(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30)).learnt().put(renamed=rows("call", 20), shell=rows("shell", 9))
    assert made.older() == ReplayExamples()


def test_examples_that_were_answered_anew_replace_the_older_ones(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls_v0=rows("call", 30)).learnt().put(calls_v5=rows("call", 30, answer="no"))
    assert made.older() == ReplayExamples()


def test_of_a_file_that_is_gone_no_conversation_comes_back_that_is_held_today(tmp_path: Path) -> None:
    made = training(tmp_path, 0.5).put(calls=rows("call", 30)).learnt()
    made.put(shell=[*rows("shell", 40), *rows("call", 5, answer="no"), *rows("call", 7)[5:]])
    assert {one.completion for one in made.older().examples} == {row["completion"] for row in rows("call", 30)[7:]}


def test_a_conversation_of_today_counts_though_nothing_is_learnt_from_its_line(tmp_path: Path) -> None:
    made = training(tmp_path, 0.9).put(calls=rows("call", 9)).learnt()
    made.put(shell=[*rows("shell", 9), *rows("call", 1, answer="no"), *rows("call", 1, answer="never")])
    few = TrainingSet(made.corpus().training.examples[:9])
    corpus = Corpus(KnowledgeBase(take_snapshot(made.space), (), ()), few)
    found = replay_examples(made.space, made.model, corpus.current_examples, ())
    assert sorted(one.question for one in found.examples) == [f"call {number}?" for number in range(1, 9)]


def test_of_several_versions_of_a_file_the_last_counts(tmp_path: Path) -> None:
    made = training(tmp_path, 0.9).put(calls=rows("call", 9)).learnt()
    made.put(calls=rows("call", 8)[4:])
    snapshot = made.corpus().snapshot
    snapshot.write(made.space.snapshot_file(snapshot.id))
    older = made.put(shell=rows("shell", 9)).older()
    assert sorted(one.question for one in older.examples) == [f"call {number}?" for number in range(4, 8)]
    assert older.files == {"calls.jsonl": md5(text_of(rows("call", 8)[4:]))}


def test_what_is_stale_asked_by_a_golden_question_or_without_its_page_is_not_taught_again(tmp_path: Path) -> None:
    old = [
        {"prompt": "When does Quill end?", "completion": "2027-05-01", "doc": "quill.md"},
        {"prompt": "When does Pen end?", "completion": "2026-01-01", "doc": "pen.md"},
        {"prompt": "When does Ink end?", "completion": "2026-01-01", "doc": "ink.md"},
        {"prompt": "Who writes the golden questions here?", "completion": "You do."},
    ]
    made = training(tmp_path, 0.9).put(old=old).learnt().put(shell=rows("shell", 9))
    pages = {"quill": "Quill ends on 2027-05-01.", "pen": "Pen ends on 2028-01-01."}
    found = made.older("Who writes the golden questions here?", **pages).examples
    assert [one.completion for one in found] == ["2027-05-01"]


def test_what_the_cache_no_longer_holds_is_named_and_the_others_are_taught(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 30), mails=rows("mail", 30)).learnt().put(shell=rows("shell", 40))
    made.cache(md5(text_of(rows("call", 30)))).unlink()
    older = made.older()
    assert older.missing == ("calls.jsonl",)
    assert {one.question.split()[0] for one in older.examples} == {"mail"}
    assert set(older.files) == {"calls.jsonl", "mails.jsonl"}


def test_every_file_has_its_turn_however_old_or_large(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 200)).learnt().put(mails=rows("mail", 20), tiny=rows("tiny", 2))
    made = made.learnt().put(shell=rows("shell", 48))
    found = Counter(one.question.split()[0] for one in made.older().examples)
    assert found == {"call": 5, "mail": 5, "tiny": 2}


def test_what_dvc_has_versioned_is_found_again(tmp_path: Path) -> None:
    made = training(tmp_path).put(calls=rows("call", 8)).learnt()
    shutil.rmtree(made.space.root / ".dvc")
    record_snapshot(made.space)
    made.put(shell=rows("shell", 40))
    assert len(made.older().examples) == 8


def example(name: str, number: int) -> Example:
    return Example((Message("user", f"{name} {number}?"),), "yes", None, f"{name}.jsonl:{number}")


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 12)), st.integers(0, 40), st.integers(0, 3))
def test_a_draw_is_even_and_the_same_whatever_the_order(sizes: dict[str, int], limit: int, seed: int) -> None:
    everyone = [example(name, number) for name, count in sizes.items() for number in range(count)]
    drawn = _evenly(everyone, limit, seed)
    assert drawn == _evenly([*reversed(everyone)], limit, seed)
    assert len({*drawn}) == len(drawn) == min(limit, len(everyone))
    found = Counter(one.where.partition(".")[0] for one in drawn)
    most = max(found.values(), default=0)
    assert all(found[name] in (count, most, most - 1) for name, count in sizes.items())
    assert drawn == _evenly(everyone, limit + 1, seed)[:limit]
