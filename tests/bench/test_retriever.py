"""Is nothing taught that the benchmark asks, and is it said where the data is missing?"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import retriever
from bench.retrieval import Collection
from bench.retriever import held_in
from tests.factories import document

PAGE = "# The cache\n\nIt is.\n\n## Setting it up\n\nSet it up.\n\n## What is kept?\n\nAll.\n\n## Keys\n\nNames.\n"
OTHER = "# The sessions\n\n## Setting it up\n\nIn a file.\n\n## Keys\n\nMore names.\n"


def collection(*questions: str) -> Collection:
    documents = [document("cache.md", PAGE), document("sessions.md", OTHER)]
    return Collection(documents, {str(at): question for at, question in enumerate(questions)}, {})


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("What is kept?", {"The cache", "Setting it up (The cache)", "Keys (The cache)"}),
        ("Setting it up (The cache)", {"The cache", "What is kept?", "Keys (The cache)"}),
        ("Keys (Some other title)", {"The cache", "What is kept?", "Setting it up (The cache)"}),
    ],
)
def test_no_heading_is_taught_that_a_question_asks_for(question: str, left: set[str]) -> None:
    taught = [pair.query for pair in held_in(collection(question)) if pair.document == "cache.md"]
    assert set(taught) == left


def test_a_tested_heading_is_not_taught_on_another_page_either() -> None:
    taught = [pair.query for pair in held_in(collection("Setting it up (The cache)"))]
    assert "Keys (The sessions)" in taught
    assert "Setting it up (The sessions)" not in taught


def test_missing_data_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.retriever", "--data", str(tmp_path)])
    assert retriever.main() == 1
    assert capsys.readouterr().err.startswith(f"bench.retriever: {tmp_path} has no medquad/corpus.jsonl")
