"""Tests of the fine-tuned embedder's benchmark: no leakage of its questions into training, and missing data."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import retriever
from bench.retrieval import Collection
from bench.retriever import training_pairs
from tests.factories import document

PAGE = "# The cache\n\nIt is.\n\n## Setting it up\n\nSet it up.\n\n## What is kept?\n\nAll.\n\n## Keys\n\nNames.\n"
OTHER = "# The sessions\n\n## Setting it up\n\nIn a file.\n\n## Keys\n\nMore names.\n"


def collection(*questions: str) -> Collection:
    documents = [document("cache.md", PAGE), document("sessions.md", OTHER)]
    return Collection(documents, {str(at): question for at, question in enumerate(questions)}, {})


@pytest.mark.parametrize(
    ("question", "remaining"),
    [
        ("What is kept?", {"The cache", "Setting it up (The cache)", "Keys (The cache)"}),
        ("Setting it up (The cache)", {"The cache", "What is kept?", "Keys (The cache)"}),
        ("Keys (Some other title)", {"The cache", "What is kept?", "Setting it up (The cache)"}),
    ],
)
def test_headings_of_questions_are_not_trained_on(question: str, remaining: set[str]) -> None:
    queries = [pair.query for pair in training_pairs(collection(question)) if pair.document == "cache.md"]
    assert set(queries) == remaining


def test_the_same_heading_on_another_page_is_not_trained_on_either() -> None:
    queries = [pair.query for pair in training_pairs(collection("Setting it up (The cache)"))]
    assert "Keys (The sessions)" in queries
    assert "Setting it up (The sessions)" not in queries


def test_missing_data_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.retriever", "--data", str(tmp_path)])
    assert retriever.main() == 1
    assert f"{tmp_path} has no medquad/corpus.jsonl" in capsys.readouterr().err
