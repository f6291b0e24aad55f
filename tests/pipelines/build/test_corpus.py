"""Is a snapshot read as one whole, with the examples set aside from which nothing can be learnt?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.build.corpus import Corpus, read_corpus
from pipelines.errors import RefusalError
from pipelines.observe.snapshot import observe
from pipelines.workspace import Workspace
from tests.factories import workspace, write

PAGE = "# Quill\n\nA pen.\n\n## Ends\n\nIn May.\n"


def project(root: Path, **blocks: dict[str, object]) -> Workspace:
    """Three pages and a picture, one of the pages empty; four examples."""
    made = workspace(root, **blocks)
    for name, text in {"quill.md": PAGE, "deep/ink.txt": "Blue.", "empty.md": "", "logo.png": "picture"}.items():
        write(made.kb / name, text)
    docs = ["quill.md", None, "gone.md", "empty.md"]
    rows = [{"prompt": f"Q{number}", "completion": "A", "doc": doc} for number, doc in enumerate(docs)]
    write(made.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return made


def read(made: Workspace) -> Corpus:
    return read_corpus(made, observe(made))


def test_documents_and_chunks_are_those_of_the_snapshot_in_order_of_path(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert [document.id for document in corpus.documents] == ["deep/ink.txt", "empty.md", "quill.md"]
    assert [chunk.key for chunk in corpus.chunks] == [("deep/ink.txt", 0), ("quill.md", 0), ("quill.md", 1)]
    digests = {document.id: document.digest for document in corpus.documents}
    assert digests == {path: digest for path, digest in corpus.snapshot.documents.items() if path != "logo.png"}
    assert {chunk.document_digest for chunk in corpus.chunks} == {digests["deep/ink.txt"], digests["quill.md"]}


def test_texts_and_chunks_are_found_by_document(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert corpus.texts == {"deep/ink.txt": "Blue.", "empty.md": "", "quill.md": PAGE}
    assert {name: len(chunks) for name, chunks in corpus.chunks_by_document.items()} == {
        "deep/ink.txt": 1,
        "quill.md": 2,
    }
    assert [chunk for chunks in corpus.chunks_by_document.values() for chunk in chunks] == list(corpus.chunks)


def test_an_example_whose_page_is_gone_or_empty_is_set_aside(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert [example.question for example in corpus.examples] == ["Q0", "Q1"]
    assert [(example.question, example.doc) for example in corpus.orphans] == [("Q2", "gone.md"), ("Q3", "empty.md")]


def test_an_orphan_comes_back_with_its_page(tmp_path: Path) -> None:
    made = project(tmp_path)
    write(made.kb / "gone.md", "Back again.")
    assert [example.question for example in read(made).orphans] == ["Q3"]


def test_every_example_that_is_kept_has_a_passage_to_learn_from(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert all(corpus.chunks_by_document[one.doc] for one in corpus.examples if one.doc is not None)
    assert [one.doc for one in corpus.examples] == ["quill.md", None]


def test_the_settings_of_the_project_are_followed(tmp_path: Path) -> None:
    made = project(tmp_path, chunk={"max_words": 20}, observe={"kb": "pages"})
    write(tmp_path / "pages/long.md", "word " * 50)
    assert [len(chunk.text.split()) for chunk in read(made).chunks if chunk.document == "long.md"] == [20, 20, 10]
    assert {chunk.document for chunk in read(made).chunks} >= {"quill.md"}


def test_the_same_files_make_the_same_corpus(tmp_path: Path) -> None:
    assert read(project(tmp_path / "one")) == read(project(tmp_path / "two"))


def test_without_examples_the_documents_are_read_all_the_same(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    write(made.kb / "a.md", "text")
    corpus = read(made)
    assert (len(corpus.chunks), corpus.examples, corpus.orphans) == (1, (), ())


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("data/train/bad.jsonl", "\n{]\n", "bad.jsonl:2 is not JSON"),
        ("data/kb/bad.md", b"\xff", "bad.md is not UTF-8"),
        ("data/kb/big.md", "x" * 600, "big.md has 600 bytes, over observe.max_document_bytes = 500"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, path: str, content: str | bytes, said: str) -> None:
    made = project(tmp_path, observe={"max_document_bytes": 500})
    write(tmp_path / path, content)
    with pytest.raises(RefusalError) as refusal:
        read(made)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["data/kb/quill.md", "data/train/rows.jsonl"])
def test_a_file_that_moved_on_since_the_snapshot_is_refused(tmp_path: Path, path: str) -> None:
    made = project(tmp_path)
    snapshot = observe(made)
    write(tmp_path / path, "another content")
    with pytest.raises(RefusalError, match="changed while it was being read"):
        read_corpus(made, snapshot)
