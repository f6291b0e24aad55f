"""Retrieval quality of a fine-tuned embedder on held-out headings, and on a domain that it was not trained on.

    python -m bench.retriever --data FOLDER

FOLDER holds django_docs/ (617 pages of snapshot_00, 498 headings as questions) and medquad/ (5,000 passages, 400
questions). The embedder is fine-tuned on the headings of django_docs alone; a pair whose heading or query is that of a
question, on whatever page, is filtered. medquad is used for evaluation only. The indexes stay under --work, so that a
second run embeds nothing twice. Fine-tuning takes about 2 minutes on one core, embedding the sets some minutes.
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

from bench.retrieval import INTERVAL, Collection, Method, SearchScores, build, read_django, read_medquad, score, search
from bench.tables import markdown_table, provenance, put_table
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.weights import available_cores
from ragtide.pipelines.params import Params
from ragtide.pipelines.sampling import paired_difference
from ragtide.pipelines.training.embedder_tuning import TuningResult, fine_tune_embedder
from ragtide.pipelines.training.pairs import TrainingPair, add_hard_negatives, build_pairs, draw_pairs

NEEDED = ("medquad/corpus.jsonl", "django_docs/queries.jsonl", "django_docs/snapshot_00")
RESULTS = Path(__file__).parent / "results" / "retriever.json"
METHODS: tuple[Method, ...] = ("vector", "hybrid")
PARAMS = Params()


@dataclass(frozen=True)
class Training:
    """The fine-tuning, the number of available pairs, and the seconds of mining hard negatives and training."""

    embedder: TuningResult
    available_pairs: int
    seconds: float


@dataclass(frozen=True)
class Compared:
    """Scores of one search method on one collection, with the base embedder and the fine-tuned one."""

    collection: str
    method: Method
    before: SearchScores
    after: SearchScores

    @property
    def gain(self) -> Any:
        """Return the paired difference of nDCG@10 with its interval."""
        return paired_difference(self.before.at10.values("ndcg10"), self.after.at10.values("ndcg10"), INTERVAL)

    def row(self) -> dict[str, Any]:
        gain = {"value": self.gain.value, "low": self.gain.low, "high": self.gain.high}
        return {"before": self.before.row(), "after": self.after.row(), "ndcg@10 gain": gain}


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/retriever"))
    options = parser.parse_args()
    missing = [needed for needed in NEEDED if not (options.data / needed).exists()]
    if missing:
        sys.stderr.write(f"bench.retriever: {options.data} has no {missing[0]}: pass the data folder with --data\n")
        return 1
    apply_offline_defaults()
    measure({"django_docs": read_django(options.data), "medquad": read_medquad(options.data)}, options.work)
    return 0


def measure(collections: dict[str, Collection], work: Path) -> None:
    """Fine-tune on the headings of django_docs, and search both collections before and after."""
    retrievers = {name: build(collection, work / name)[0] for name, collection in collections.items()}
    before = {
        (name, method): score(search(retrievers[name], collection, method), collection)
        for name, collection in collections.items()
        for method in METHODS
    }
    training = fine_tune(collections["django_docs"], retrievers["django_docs"], work / "embedders")
    tuned = load_embedder(PARAMS.embed, work / "embedders" / training.embedder.digest)
    compared = []
    for name, collection in collections.items():
        retriever, _ = build(collection, work / name, tuned)
        for method in METHODS:
            after = score(search(retriever, collection, method), collection)
            compared.append(Compared(name, method, before[name, method], after))
    report(training, compared)


def fine_tune(collection: Collection, retriever: Retriever, folder: Path) -> Training:
    """Fine-tune the embedder with the defaults of params.yaml."""
    started = time.perf_counter()
    available = training_pairs(collection)
    pairs = add_hard_negatives(
        draw_pairs(available, PARAMS.embedder_tuning.max_pairs, PARAMS.embedder_tuning.seed),
        retriever,
        PARAMS.embedder_tuning.negatives,
    )
    embedder = fine_tune_embedder(pairs, PARAMS.embed, PARAMS.embedder_tuning, folder, progress_bars)
    return Training(embedder, len(available), round(time.perf_counter() - started, 1))


def training_pairs(collection: Collection) -> list[TrainingPair]:
    """Return the pairs of a collection without those of its questions.

    A question is a heading, with the page's title in brackets where the heading alone is too unspecific.
    """
    chunks = InMemorySource.of(chunk_documents(collection.documents, PARAMS.chunk)).by_document
    questions = collection.questions.values()
    return build_pairs(chunks, [], [*questions, *(question.rsplit(" (", maxsplit=1)[0] for question in questions)])


def report(training: Training, compared: Sequence[Compared]) -> None:
    """Write results/retriever.json and the table."""
    by_vector = {result.collection: result for result in compared if result.method == "vector"}
    django, other = by_vector["django_docs"], by_vector["medquad"]
    content = {
        "ndcg10_before": round(django.before.at10.ndcg10, 4),
        "ndcg10_after": round(django.after.at10.ndcg10, 4),
        "other_before": round(other.before.at10.ndcg10, 4),
        "other_after": round(other.after.at10.ndcg10, 4),
        "seconds": training.seconds,
        "cores": available_cores(),
        "pairs": {"available": training.available_pairs, "trained on": training.embedder.pairs},
        "steps": training.embedder.steps,
        "settings": PARAMS.embedder_tuning.model_dump(mode="json"),
        "searches": {f"{result.collection}, {result.method}": result.row() for result in compared},
        "made by": provenance(),
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put_table("retriever", f"{table(compared)}\n\n{describe(training)}")


def table(compared: Sequence[Compared]) -> str:
    """Return a table with a row for each search method of each collection."""
    rows = [
        [
            f"{result.collection} ({len(result.before.at10.per_question)})",
            result.method,
            f"{result.before.at3.recall:.3f} → {result.after.at3.recall:.3f}",
            f"{result.before.at10.ndcg10:.3f} → {result.after.at10.ndcg10:.3f}",
            f"{result.gain.value:+.3f}",
            f"{result.gain.low:+.3f} … {result.gain.high:+.3f}",
        ]
        for result in compared
    ]
    return markdown_table(["set (questions)", "search", "recall@3", "nDCG@10", "difference", "95 % interval"], rows)


def describe(training: Training) -> str:
    """Describe the training in a sentence."""
    pairs = f"{training.embedder.pairs} of {training.available_pairs} pairs, {training.embedder.steps} steps"
    cores = f"{available_cores()} core(s)"
    return f"Trained on {pairs}: {training.seconds:.0f} s on {cores}, including the mining of hard negatives."


if __name__ == "__main__":
    sys.exit(main())
