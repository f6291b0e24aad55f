"""Is only that embedded which has changed? Real histories of documents, refreshed step by step, and counted.

    python -m bench.changes --data FOLDER

FOLDER holds django_docs/snapshot_00..05 and eol/snapshot_20..27. A chunk has truly changed when no chunk of the state
before has its text. The count does not hang on the embedder, so a cheap one is used that hashes words.
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
    """One refresh: what changed, what was embedded, and the whole."""

    history: str
    state: str
    truly_changed: int
    embedded: int
    chunks: int


class Counting:
    """Vectors from the texts' hashes; counts what it was given."""

    fingerprint, dimensions = "counting", WIDTH

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.embedded += len(texts)
        drawn = [np.random.default_rng(abs(hash(text))).normal(size=WIDTH) for text in texts]
        return np.asarray([one / np.linalg.norm(one) for one in drawn], dtype=np.float32).reshape(len(texts), WIDTH)


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    missing = [pattern for pattern in HISTORIES.values() if not list(options.data.glob(pattern))]
    if missing:
        sys.stderr.write(f"bench.changes: {options.data} has no {missing[0]}: name the data with --data\n")
        return 1
    report([step for name, pattern in HISTORIES.items() for step in walk(name, sorted(options.data.glob(pattern)))])
    return 0


def walk(history: str, states: Sequence[Path]) -> Iterator[Step]:
    """Refresh through the states in order, then back to the first: a revert."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), Params.model_validate({"deletion_guard": {"max_removed_share": 1.0}}))
        embedder = Counting()
        before: set[str] = set()
        for state in [*states, states[0]]:
            name = state.name if state.name != "kb" else state.parent.name
            lay_out(state, workspace.kb)
            texts = set(cut(workspace.kb, workspace.params))
            counted = embedder.embedded
            built = build_index_only(workspace, LoadedEmbedder(embedder), take_snapshot(workspace), no_progress)
            yield Step(history, name, len(texts - before), embedder.embedded - counted, built.rows)
            before = texts


def lay_out(state: Path, kb: Path) -> None:
    """The state's files in place of those before; reStructuredText gets its usual suffix."""
    shutil.rmtree(kb, ignore_errors=True)
    for page in sorted(path for path in state.rglob("*") if path.suffix in (".txt", ".md")):
        target = (kb / page.relative_to(state)).with_suffix(".rst" if page.suffix == ".txt" else ".md")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)


def cut(kb: Path, params: Params) -> Iterator[str]:
    """The digests of a clean cut of the folder."""
    for page in sorted(path for path in kb.rglob("*") if path.is_file()):
        name = page.relative_to(kb).as_posix()
        document = Document(id=name, text=convert_document(name, page.read_bytes()), digest="")
        yield from (chunk.digest for chunk in chunk_document(document, params.chunk))


def report(steps: Sequence[Step]) -> None:
    """Write results/changes.json and the table; the share leaves out the first build and the revert at the end."""
    shares = {name: _share([step for step in steps if step.history == name][1:-1]) for name in HISTORIES}
    found = {"embedded_per_truly_changed": shares, "steps": [asdict(step) for step in steps], "of": provenance()}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    rows = [tuple(str(value) for value in asdict(step).values()) for step in steps]
    told = "; ".join(f"{name}: {share:.3f}" for name, share in shares.items())
    head = ("history", "state", "truly changed chunks", "embedded", "of")
    share = f"Embedded a truly changed chunk, without the first build and the revert: {told}."
    put_table("changes", f"{markdown_table(head, rows)}\n\n{share}")


def _share(steps: Sequence[Step]) -> float:
    return sum(step.embedded for step in steps) / max(1, sum(step.truly_changed for step in steps))


if __name__ == "__main__":
    sys.exit(main())
