"""Number of chunks embedded at each refresh of real document histories, against the number that changed.

    python -m bench.changes --data FOLDER

FOLDER holds django_docs/snapshot_00..05 and eol/snapshot_20..27. A chunk counts as changed if no chunk of the previous
state has its text. The count does not depend on the embedder, so a cheap one that hashes texts is used.
No model is loaded: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.tables import markdown_table, provenance, put_table
from ragtide.pipelines.build import build_index_only
from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.data import Document
from ragtide.pipelines.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "changes.json"
HISTORIES = {"django_docs": "django_docs/snapshot_*", "eol": "eol/snapshot_*/kb"}
WIDTH = 8


@dataclass(frozen=True)
class Step:
    """One refresh: the numbers of changed, embedded and all chunks."""

    history: str
    state: str
    truly_changed: int
    embedded: int
    chunks: int


class CountingHashEmbedder:
    """Embedder whose vectors come from the texts' hashes; counts the embedded texts."""

    fingerprint, dimensions = "counting", WIDTH

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.embedded += len(texts)
        vectors = [np.random.default_rng(abs(hash(text))).normal(size=WIDTH) for text in texts]
        return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], dtype=np.float32).reshape(
            len(texts), WIDTH
        )


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    missing = [pattern for pattern in HISTORIES.values() if not list(options.data.glob(pattern))]
    if missing:
        sys.stderr.write(f"bench.changes: {options.data} has no {missing[0]}: pass the data folder with --data\n")
        return 1
    report(
        [
            step
            for name, pattern in HISTORIES.items()
            for step in refresh_history(name, sorted(options.data.glob(pattern)))
        ]
    )
    return 0


def refresh_history(history: str, states: Sequence[Path]) -> Iterator[Step]:
    """Refresh an index to each state in order, then back to the first state (a revert)."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), Params.model_validate({"deletion_guard": {"max_removed_share": 1.0}}))
        embedder = CountingHashEmbedder()
        before: set[str] = set()
        for state in [*states, states[0]]:
            name = state.name if state.name != "kb" else state.parent.name
            write_state(state, workspace.kb)
            digests = set(chunk_digests(workspace.kb, workspace.params))
            embedded_before = embedder.embedded
            built = build_index_only(workspace, LoadedEmbedder(embedder), take_snapshot(workspace), no_progress)
            yield Step(history, name, len(digests - before), embedder.embedded - embedded_before, built.rows)
            before = digests


def write_state(state: Path, kb: Path) -> None:
    """Replace the contents of `kb` by the state's files; reStructuredText files (.txt) get the suffix .rst."""
    shutil.rmtree(kb, ignore_errors=True)
    for page in sorted(path for path in state.rglob("*") if path.suffix in (".txt", ".md")):
        target = (kb / page.relative_to(state)).with_suffix(".rst" if page.suffix == ".txt" else ".md")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)


def chunk_digests(kb: Path, params: Params) -> Iterator[str]:
    """Yield the digest of every chunk of the folder's documents."""
    for page in sorted(path for path in kb.rglob("*") if path.is_file()):
        name = page.relative_to(kb).as_posix()
        document = Document(id=name, text=convert_document(name, page.read_bytes()), digest="")
        yield from (chunk.digest for chunk in chunk_document(document, params.chunk))


def report(steps: Sequence[Step]) -> None:
    """Write results/changes.json and the table; the shares exclude the first build and the revert at the end."""
    shares = {name: _share([step for step in steps if step.history == name][1:-1]) for name in HISTORIES}
    content = {"embedded_per_truly_changed": shares, "steps": [asdict(step) for step in steps], "of": provenance()}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    rows = [tuple(str(value) for value in asdict(step).values()) for step in steps]
    listed = "; ".join(f"{name}: {share:.3f}" for name, share in shares.items())
    head = ("history", "state", "changed chunks", "embedded chunks", "all chunks")
    summary = f"Embedded chunks per changed chunk, without the first build and the revert: {listed}."
    put_table("changes", f"{markdown_table(head, rows)}\n\n{summary}")


def _share(steps: Sequence[Step]) -> float:
    return sum(step.embedded for step in steps) / max(1, sum(step.truly_changed for step in steps))


if __name__ == "__main__":
    sys.exit(main())
