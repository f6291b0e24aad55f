"""Tests of the index fingerprint, and of recognising a current index without opening it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.build import build_index_only, maintain_index, write_index_artifact
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.index import fingerprint
from ragtide.pipelines.index.fingerprint import current_index, index_fingerprint, local_table_folder, vector_fingerprint
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.params import ChunkParams, EmbedParams
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import BuiltIndex
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, workspace, write

BROKEN = b"\xff is no UTF-8"


def renamed(name: str = "another", dimensions: int = 8) -> HashEmbedder:
    made = HashEmbedder()
    made.fingerprint, made.dimensions = name, dimensions  # type: ignore[misc]
    return made


# --- what the fingerprint depends on ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedder", "embed"),
    [
        (renamed(), EmbedParams()),
        (renamed("hash-8", 16), EmbedParams()),
        (HashEmbedder(), EmbedParams(document_prefix="passage: ")),
        (HashEmbedder(), EmbedParams(query_prefix="query: ")),
        (HashEmbedder(), EmbedParams(document_prefix="query: ")),
    ],
)
def test_other_vectors_change_both_fingerprints(embedder: HashEmbedder, embed: EmbedParams) -> None:
    assert vector_fingerprint(embedder, embed) != vector_fingerprint(HashEmbedder(), EmbedParams())
    first, second = (
        index_fingerprint(*arguments) for arguments in [(embedder, ChunkParams(), embed), default_settings()]
    )
    assert first != second


def default_settings() -> tuple[HashEmbedder, ChunkParams, EmbedParams]:
    return HashEmbedder(), ChunkParams(), EmbedParams()


@pytest.mark.parametrize("name", ["CHUNKER", "CONVERTER"])
def test_another_chunker_or_converter_changes_only_the_index_fingerprint(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index_fingerprint(*default_settings()), vector_fingerprint(HashEmbedder(), EmbedParams())
    monkeypatch.setattr(fingerprint, name, "another")
    assert index_fingerprint(*default_settings()) != before[0]
    assert vector_fingerprint(HashEmbedder(), EmbedParams()) == before[1]


def test_chunker_settings_change_only_the_index_fingerprint() -> None:
    assert index_fingerprint(HashEmbedder(), ChunkParams(max_words=99), EmbedParams()) != index_fingerprint(
        *default_settings()
    )


@pytest.mark.parametrize(
    "same",
    [{"device": "cuda"}, {"backend": "torch"}, {"tokens_at_once": 999}, {"model": "its/name/is/in/the/embedder"}],
)
def test_runtime_settings_change_no_fingerprint(same: dict[str, Any]) -> None:
    assert index_fingerprint(HashEmbedder(), ChunkParams(), EmbedParams(**same)) == index_fingerprint(
        *default_settings()
    )


# --- location of the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["/data/lance", "lance", "C:/data/lance"])
def test_an_index_in_a_folder_has_its_table_there(uri: str) -> None:
    assert local_table_folder(uri) == Path(uri) / "chunks.lance"


@pytest.mark.parametrize("uri", ["s3://bucket/lance", "gs://bucket/lance", "db://database", "az://x/y"])
def test_a_remote_index_has_no_folder(uri: str) -> None:
    assert local_table_folder(uri) is None


# --- a current index -------------------------------------------------------------------------------------------------


class Sealed(HashEmbedder):
    """An embedder with a fingerprint that fails on any text."""

    def embed(self, texts: Any) -> Any:
        raise AssertionError("a settled index asks for no vector")


@dataclass
class Built:
    """A project with an index, and the record of its build."""

    workspace: Workspace

    @property
    def note(self) -> Path:
        return self.workspace.artifacts / "index.json"

    @property
    def snapshot(self) -> Snapshot:
        return take_snapshot(self.workspace)

    def refresh(self) -> BuiltIndex:
        return build_index_only(self.workspace, LoadedEmbedder(HashEmbedder()), self.snapshot, no_progress)

    def settled(self, embedder: HashEmbedder | None = None) -> BuiltIndex | None:
        return current_index(self.workspace, self.snapshot, embedder or Sealed())

    def under(self, **blocks: dict[str, Any]) -> Built:
        return Built(workspace(self.workspace.root, **blocks))


@pytest.fixture
def built(tmp_path: Path) -> Built:
    made = Built(workspace(tmp_path, deletion_guard={"max_removed_documents": 0, "max_removed_share": 0.0}))
    for name in ("a.md", "b.md"):
        write(made.workspace.kb / name, f"# Page {name}\n\nText of {name}.\n")
    made.refresh()
    return made


def test_an_index_of_the_current_folder_is_current(built: Built) -> None:
    known = built.settled()
    assert known is not None
    again = built.refresh()
    assert (known.version, known.fingerprint, known.rows) == (again.version, again.fingerprint, again.rows)
    assert again.embedded == 0


def test_touched_files_leave_the_index_current(built: Built) -> None:
    (built.workspace.kb / "a.md").touch()
    write(built.workspace.train / "rows.jsonl", '{"prompt": "Q", "completion": "A"}\n')
    assert built.settled() is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda made: write(made.workspace.kb / "a.md", "Another."),
        lambda made: write(made.workspace.kb / "new.md", "New."),
        lambda made: (made.workspace.kb / "a.md").unlink(),
        lambda made: (made.workspace.kb / "a.md").rename(made.workspace.kb / "c.md"),
        lambda made: made.note.unlink(),
        lambda made: made.note.write_text("half a no", encoding="utf-8"),
        lambda made: made.note.write_text("{}", encoding="utf-8"),
        lambda made: made.note.write_bytes(BROKEN),
    ],
    ids=["edit", "new", "removal", "rename", "no note", "half a note", "empty note", "binary note"],
)
def test_after_a_change_the_index_is_not_current(built: Built, change: Any) -> None:
    change(built)
    assert built.settled() is None


@pytest.mark.parametrize(
    "blocks",
    [
        {"chunk": {"max_words": 99}},
        {"embed": {"query_prefix": "q: "}},
        {"embed": {"document_prefix": "p: "}},
        {"index": {"uri": "/no/such/folder"}},
        {"index": {"uri": "s3://bucket/lance"}},
    ],
)
def test_with_other_settings_the_index_is_not_current(built: Built, blocks: dict[str, Any]) -> None:
    assert built.under(**blocks).settled() is None


@pytest.mark.parametrize("blocks", [{"embed": {"device": "cuda"}}, {"policy": {"points_per_hour": 1}}])
def test_settings_without_effect_on_rows_leave_the_index_current(built: Built, blocks: dict[str, Any]) -> None:
    assert built.under(**blocks).settled() is not None


def test_with_other_weights_the_index_is_not_current(built: Built) -> None:
    assert built.settled(renamed()) is None


def test_a_record_copied_from_another_project_is_ignored(built: Built, tmp_path: Path) -> None:
    note = BuiltIndex.read(built.note)
    write_index_artifact(built.workspace, note.model_copy(update={"uri": str(tmp_path / "elsewhere")}))
    assert built.settled() is None


@pytest.mark.parametrize("version", [0, 99, 2**63])
def test_a_record_of_a_missing_version_is_ignored(built: Built, version: int) -> None:
    write_index_artifact(built.workspace, BuiltIndex.read(built.note).model_copy(update={"version": version}))
    assert built.settled() is None


def test_a_record_of_a_pruned_version_is_ignored(built: Built) -> None:
    first = BuiltIndex.read(built.note)
    write(built.workspace.kb / "a.md", "# Page a.md\n\nText of a.md, and more.\n")
    built.refresh()
    write(built.workspace.kb / "a.md", "# Page a.md\n\nText of a.md.\n")
    write_index_artifact(built.workspace, first)
    assert built.settled() == first
    eager = built.under(maintenance={"keep_days": 0, "max_fragments": 1})
    maintain_index(eager.workspace, HashEmbedder())
    assert built.settled() is None


def test_maintenance_leaves_the_index_current(built: Built) -> None:
    maintain_index(built.workspace, HashEmbedder())
    assert built.settled() is not None


def test_a_pending_retry_makes_the_index_not_current(built: Built) -> None:
    write(built.workspace.kb / "bad.md", BROKEN)
    assert [built.refresh().waiting for _ in range(3)] == [1, 1, 0]
    # After the last attempt there is nothing left to retry.
    assert built.settled() is not None


def test_a_pending_deletion_makes_the_index_not_current(built: Built) -> None:
    (built.workspace.kb / "a.md").unlink()
    assert built.refresh().waiting == 1
    assert built.settled() is None


def test_without_an_index_nothing_is_current(tmp_path: Path) -> None:
    made = Built(workspace(tmp_path))
    write(made.workspace.kb / "a.md", "Text.")
    assert made.settled() is None
