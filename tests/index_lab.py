"""An index under random changes and faults, with checks of its rows and of what was embedded."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import lancedb
import numpy as np

from ragtide.pipelines.build import build_index_only
from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.models.load import LoadedEmbedder, load_embedder
from ragtide.pipelines.models.weights import has_native_bfloat16
from ragtide.pipelines.params import EmbedParams, IndexParams
from ragtide.pipelines.ports import Embedder, Vectors, no_progress
from ragtide.pipelines.records.data import Chunk, Document
from ragtide.pipelines.workspace import Workspace
from tests.changing_folder import Folder
from tests.crash import Point, RecordingEmbedder, fault_at, small_project
from tests.factories import HashEmbedder

Rows = dict[tuple[str, int], dict[str, Any]]


class Killed(BaseException):
    """Stands for a SIGKILL: no code catches it."""


@dataclass(frozen=True)
class EmbedderFails:
    """The embedder fails after so many texts."""

    after: int


Fate = Point | EmbedderFails | None
# No refresh after this change: changes accumulate.
NO_REFRESH = "no refresh"


@dataclass(frozen=True)
class Step:
    """A change, and the fate of the refresh after it: success (None), failure, kill, or no refresh."""

    change: str
    which: int
    what: int
    fate: Fate | str


POINTS = (
    *(Point("before", "window", nth) for nth in (1, 2)),
    *(Point(when, "vectors", nth) for when in ("before", "after") for nth in (1, 2)),
    *(Point(when, place) for when in ("before", "after") for place in ("commit", "text index")),
    Point("before", "note"),
)
FATES = (*[None] * 8, *[NO_REFRESH] * 4, *map(EmbedderFails, (0, 1, 2, 4)), *POINTS)


class Lab:
    """A folder with its index, and checks of its rows and of the texts that were embedded."""

    def __init__(
        self, root: Path, embedder: RecordingEmbedder | None = None, reference: Embedder | None = None
    ) -> None:
        self.workspace = small_project(root)
        self.folder = Folder(self.workspace.kb)
        self.embedder = embedder or RecordingEmbedder()
        self.reference = reference or HashEmbedder()
        self.rows: Rows = {}
        self._embedded: set[str] = set()
        self._checked_calls = 0

    def take(self, step: Step) -> None:
        """Make a change, then refresh as its fate says."""
        getattr(self.folder, step.change)(step.which, step.what)
        if not isinstance(step.fate, str):
            self.refresh(step.fate)

    def refresh(self, fate: Fate = None) -> None:
        """Refresh, and check the rows afterwards."""
        wanted = self.wanted()
        try:
            with self._with_fate(fate):
                build_index_only(
                    self.workspace, LoadedEmbedder(self.embedder), take_snapshot(self.workspace), no_progress
                )
        except (Killed, ConnectionError):
            self.check(wanted, done=False, window_is_lost=loses_a_window(fate))
        except UserError:
            assert set(self.folder.unreadable) == set(self.folder.pages)
            self.check(wanted, done=False)
        else:
            self.check(wanted)

    def check(self, wanted: Rows, done: bool = True, window_is_lost: bool = False) -> None:
        """After success the rows are `wanted`; after a failure they are these or the ones before, never a mixture."""
        rows = rows_of(self.workspace)
        expected = wanted if done or without_vectors(rows) == without_vectors(wanted) else self.rows
        assert_same(rows, expected, self.embedder.within)
        self.rows = rows
        self._check_calls({join_whitespace(row["text"]) for row in wanted.values()}, window_is_lost)

    def wanted(self) -> Rows:
        """The expected rows: of readable documents their chunks, of unreadable ones their current rows."""
        readable = [path for path in self.folder.pages if path not in self.folder.unreadable]
        chunks = [chunk for path in readable for chunk in self._chunks(path)]
        kept = {key: row for key, row in self.rows.items() if key[0] in self.folder.unreadable}
        return {**{chunk.key: self._row(chunk) for chunk in chunks}, **kept}

    def clean(self) -> Rows:
        """The rows of a first build of the same folder, in another database."""
        return clean_rows(self.workspace, self.reference)

    def read_calls(self, file: Path) -> None:
        """Add the calls of the embedder in a child process that was killed."""
        self.embedder.calls += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    @property
    def rows_without_full_text(self) -> int:
        """The number of rows that the full-text index lacks."""
        table = table_of(self.workspace)
        names = [index.name for index in table.list_indices() if "text" in index.columns]
        return int(table.index_stats(names[0]).num_unindexed_rows) if names else int(table.count_rows())

    def _chunks(self, path: str) -> list[Chunk]:
        content = self.folder.pages[path].encode(path)
        text = convert_document(path, content)
        return chunk_document(Document(id=path, text=text, digest=digest_of(content)), self.workspace.params.chunk)

    def _row(self, chunk: Chunk) -> dict[str, Any]:
        [vector] = self.reference.embed([chunk.text])
        return {**chunk.model_dump(exclude={"record_version"}), "vector": vector}

    def _check_calls(self, texts_of_rows: set[str], window_is_lost: bool) -> None:
        """Check that only texts of rows were embedded, each once; those of a lost window may be embedded again."""
        calls, self._checked_calls = self.embedder.calls[self._checked_calls :], len(self.embedder.calls)
        for call in calls:
            texts = [join_whitespace(text) for text in call]
            assert len(texts) == len(set(texts))
            assert set(texts) <= texts_of_rows
            assert not set(texts) & self._embedded
            if not (window_is_lost and call is calls[-1]):
                self._embedded |= set(texts)

    @contextmanager
    def _with_fate(self, fate: Fate) -> Iterator[None]:
        self.embedder.fails_in = fate.after if isinstance(fate, EmbedderFails) else None
        with fault_at(fate, die_here) if isinstance(fate, Point) else nullcontext():
            yield
        self.embedder.fails_in = None


class RecordingModel(RecordingEmbedder):
    """The packaged embedder, with its calls recorded.

    Where the CPU computes in bfloat16, a vector depends slightly on the other texts of its batch.
    """

    within = 1e-3 if has_native_bfloat16("cpu") else 1e-6

    def __init__(self) -> None:
        super().__init__()
        self.real = load_embedder(EmbedParams())
        self.fingerprint, self.dimensions = self.real.fingerprint, self.real.dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        self.calls.append(list(texts))
        return self.real.embed(texts)


def loses_a_window(fate: Fate) -> bool:
    """Whether the vectors of a window were computed but not cached yet."""
    return isinstance(fate, EmbedderFails) or fate in (Point("before", "vectors", nth) for nth in (1, 2))


def die_here() -> NoReturn:
    raise Killed


def table_of(workspace: Workspace) -> Any:
    return lancedb.connect(workspace.index_uri).open_table(TABLE)


def rows_of(workspace: Workspace, version: int | str | None = None) -> Rows:
    """Every row with all columns, by key; {} where there is no table yet."""
    try:
        table = table_of(workspace)
    except ValueError:
        return {}
    if version is not None:
        table.checkout(version)
    rows = table.to_arrow().to_pylist()
    assert len({(row["document"], row["position"]) for row in rows}) == len(rows)
    return {(row["document"], row["position"]): row for row in rows}


def clean_rows(workspace: Workspace, embedder: Embedder) -> Rows:
    """The rows of a first build of the same folder, in another database."""
    with tempfile.TemporaryDirectory(dir=workspace.root) as folder:
        params = workspace.params.model_copy(update={"index": IndexParams(uri=f"{folder}/lance")})
        elsewhere = replace(workspace, params=params)
        build_index_only(elsewhere, LoadedEmbedder(embedder), take_snapshot(elsewhere), no_progress)
        return rows_of(elsewhere)


def digest_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def without_vectors(rows: Rows) -> Rows:
    return {key: {name: value for name, value in row.items() if name != "vector"} for key, row in rows.items()}


def assert_same(rows: Rows, wanted: Rows, within: float = RecordingEmbedder.within) -> None:
    assert without_vectors(rows) == without_vectors(wanted)
    for key, row in wanted.items():
        np.testing.assert_allclose(rows[key]["vector"], row["vector"], rtol=0, atol=within)


def join_whitespace(text: str) -> str:
    return " ".join(text.split())
