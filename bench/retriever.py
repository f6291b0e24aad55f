"""How much better does a tuned retriever find, and what does it forget? Held-out headings, and a domain never taught.

    python -m bench.retriever --data FOLDER

FOLDER holds django_docs/ (617 pages of snapshot_00, 498 headings as questions) and medquad/ (5,000 passages, 400
questions). The retriever is taught the headings of django_docs alone, and none that a question asks for: a pair whose
heading or query is that of a question, in whatever page, is left out. medquad is only ever asked. The indexes stay
under --work, so that a second run embeds nothing that it has embedded before.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.retrieval import INTERVAL, Collection, Judged, Way, build, judge, read_django, read_medquad, search
from bench.tables import markdown_table, provenance, put_table
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.weights import available_cores
from ragtide.pipelines.params import Params
from ragtide.pipelines.sampling import paired_difference
from ragtide.pipelines.training.embedder_tuning import TuningResult, fine_tune_embedder
from ragtide.pipelines.training.pairs import TrainingPair, add_hard_negatives, build_pairs, draw_pairs

NEEDED = ("medquad/corpus.jsonl", "django_docs/queries.jsonl", "django_docs/snapshot_00")
RESULTS = Path(__file__).parent / "results" / "retriever.json"
WAYS: tuple[Way, ...] = ("vector", "hybrid")
PARAMS = Params()


@dataclass(frozen=True)
class Taught:
    """What the training was, and the seconds of looking for near misses and training together."""

    retriever: TuningResult
    there: int
    seconds: float


@dataclass(frozen=True)
class Compared:
    """One way of searching one collection, with the retriever as it was and tuned."""

    collection: str
    way: Way
    before: Judged
    after: Judged

    @property
    def gain(self) -> Any:
        """The paired difference of nDCG@10, with its interval."""
        return paired_difference(self.before.at10.values("ndcg10"), self.after.at10.values("ndcg10"), INTERVAL)

    def row(self) -> dict[str, Any]:
        gain = {"value": self.gain.value, "low": self.gain.low, "high": self.gain.high}
        return {"before": self.before.row(), "after": self.after.row(), "ndcg@10 gain": gain}


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/retriever"))
    options = parser.parse_args()
    missing = [needed for needed in NEEDED if not (options.data / needed).exists()]
    if missing:
        sys.stderr.write(f"bench.retriever: {options.data} has no {missing[0]}: name the data with --data\n")
        return 1
    apply_offline_defaults()
    measure({"django_docs": read_django(options.data), "medquad": read_medquad(options.data)}, options.work)
    return 0


def measure(collections: dict[str, Collection], work: Path) -> None:
    """Teach the retriever the headings of django_docs, and search both collections with it and without."""
    readers = {name: build(one, work / name)[0] for name, one in collections.items()}
    before = {
        (name, way): judge(search(readers[name], one, way), one) for name, one in collections.items() for way in WAYS
    }
    taught = teach(collections["django_docs"], readers["django_docs"], work / "retrievers")
    tuned = load_embedder(PARAMS.embed, work / "retrievers" / taught.retriever.digest)
    compared = []
    for name, one in collections.items():
        reader, _ = build(one, work / name, tuned)
        compared += [Compared(name, way, before[name, way], judge(search(reader, one, way), one)) for way in WAYS]
    report(taught, compared)


def teach(collection: Collection, reader: Retriever, folder: Path) -> Taught:
    """Tune the retriever with the defaults of params.yaml."""
    started = time.perf_counter()
    there = held_in(collection)
    pairs = add_hard_negatives(
        draw_pairs(there, PARAMS.embedder_tuning.max_pairs, PARAMS.embedder_tuning.seed),
        reader,
        PARAMS.embedder_tuning.negatives,
    )
    retriever = fine_tune_embedder(pairs, PARAMS.embed, PARAMS.embedder_tuning, folder, progress_bars)
    return Taught(retriever, len(there), round(time.perf_counter() - started, 1))


def held_in(collection: Collection) -> list[TrainingPair]:
    """The pairs of a collection without those of its questions; a question is a heading, the page's title in brackets
    after it where it would say too little."""
    chunks = InMemorySource.of(chunk_documents(collection.documents, PARAMS.chunk)).by_document
    questions = collection.questions.values()
    return build_pairs(chunks, [], [*questions, *(question.rsplit(" (", maxsplit=1)[0] for question in questions)])


def report(taught: Taught, compared: Sequence[Compared]) -> None:
    """Write results/retriever.json and the table."""
    main_way = {one.collection: one for one in compared if one.way == "vector"}
    django, other = main_way["django_docs"], main_way["medquad"]
    content = {
        "ndcg10_before": round(django.before.at10.ndcg10, 4),
        "ndcg10_after": round(django.after.at10.ndcg10, 4),
        "other_before": round(other.before.at10.ndcg10, 4),
        "other_after": round(other.after.at10.ndcg10, 4),
        "seconds": taught.seconds,
        "cores": available_cores(),
        "pairs": {"there are": taught.there, "taught": taught.retriever.pairs},
        "steps": taught.retriever.steps,
        "settings": PARAMS.embedder_tuning.model_dump(mode="json"),
        "searches": {f"{one.collection}, {one.way}": one.row() for one in compared},
        "made by": provenance(),
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put_table("retriever", f"{table(compared)}\n\n{told(taught)}")


def table(compared: Sequence[Compared]) -> str:
    """A row for each search of each collection."""
    rows = [
        [
            f"{one.collection} ({len(one.before.at10.per_question)})",
            one.way,
            f"{one.before.at3.recall:.3f} → {one.after.at3.recall:.3f}",
            f"{one.before.at10.ndcg10:.3f} → {one.after.at10.ndcg10:.3f}",
            f"{one.gain.value:+.3f}",
            f"{one.gain.low:+.3f} … {one.gain.high:+.3f}",
        ]
        for one in compared
    ]
    return markdown_table(["set (questions)", "search", "recall@3", "nDCG@10", "difference", "95 % interval"], rows)


def told(taught: Taught) -> str:
    """What the training was, in a sentence."""
    made = taught.retriever
    pairs = f"{made.pairs} of {taught.there} pairs, {made.steps} steps"
    return f"Taught {pairs}: {taught.seconds:.0f} s on {available_cores()} core(s), looking for near misses included."


if __name__ == "__main__":
    sys.exit(main())
