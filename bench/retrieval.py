"""Retrieval quality of hybrid, vector and full-text search and of plain BM25 on three sets of real questions.

    python -m bench.retrieval --data FOLDER

FOLDER holds medquad/ (5,000 passages, 400 questions, in BEIR form), django_docs/ (617 pages of snapshot_00, headings
as questions), and eol/ (446 pages of snapshot_27, a sample of 600 facts). Relevance is judged per document; a document
has the rank of its first passage. The indexes stay under --work, so that a second run embeds nothing. The first run
embeds about 20,000 chunks, which takes some minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, Literal

import bm25s  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from bench.tables import markdown_table, provenance, put_table
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.evaluation.retrieval_metrics import RankingScores, score_rankings, unique_documents
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import load_models
from ragtide.pipelines.params import Params, ScoreParams
from ragtide.pipelines.ports import Embedder
from ragtide.pipelines.records.data import Document
from ragtide.pipelines.sampling import paired_difference

Method = Literal["vector", "text", "hybrid"]
METHODS: tuple[Method, ...] = ("vector", "text", "hybrid")
BASELINE = "bm25"
# Number of passages retrieved for a question; their documents are ranked.
PASSAGES = 50
FACTS = 600
SEED = 20261124
INTERVAL = ScoreParams(confidence=0.95, resamples=2000)
LIBRARIES = ("lancedb", "sentence-transformers", "torch", "bm25s", "ir-measures", "pytrec-eval-terrier")
RESULTS = Path(__file__).parent / "results" / "retrieval.json"
Rankings = dict[str, list[str]]


@dataclass(frozen=True)
class Collection:
    """Documents, questions about them by id, and the relevant documents of each question: {document id: grade}."""

    documents: list[Document]
    questions: dict[str, str]
    relevant: dict[str, dict[str, int]]


@dataclass(frozen=True)
class SearchScores:
    """Scores of one search method on one collection, at depths 3 and 10."""

    at3: RankingScores
    at10: RankingScores

    def row(self) -> dict[str, float]:
        values = {
            "recall@3": self.at3.recall,
            "recall@10": self.at10.recall,
            "ndcg@10": self.at10.ndcg10,
            "mrr@10": self.at10.mrr,
        }
        return {name: round(value, 4) for name, value in values.items()}


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/retrieval"))
    options = parser.parse_args()
    missing = [needed for needed in NEEDED if not (options.data / needed).exists()]
    if missing:
        sys.stderr.write(f"bench.retrieval: {options.data} has no {missing[0]}: pass the data folder with --data\n")
        return 1
    apply_offline_defaults()
    report({name: measure(read(options.data), options.work / name) for name, read in COLLECTIONS.items()})
    return 0


# --- collections ---------------------------------------------------------------------------------------------------


def read_medquad(data: Path) -> Collection:
    """Read medquad; each passage is a document of its own, its title as the heading."""
    folder = data / "medquad"
    documents = [
        _document(f"{row['_id']}.md", _titled(row["title"], row["text"])) for row in _rows(folder / "corpus.jsonl")
    ]
    relevant: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            relevant.setdefault(row["query-id"], {})[f"{row['corpus-id']}.md"] = int(row["score"])
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    return Collection(documents, {key: text for key, text in queries.items() if key in relevant}, relevant)


def read_django(data: Path) -> Collection:
    """Read Django's documentation; its .txt files become .rst, so that their headings are recognised."""
    folder = data / "django_docs"
    pages = sorted((folder / "snapshot_00").rglob("*.txt"))
    documents = [
        _document(_as_rst(path.relative_to(folder / "snapshot_00")), path.read_text("utf-8")) for path in pages
    ]
    queries = _rows(folder / "queries.jsonl")
    relevant = {row["id"]: {_as_rst(PurePath(row["doc"])): 1} for row in queries}
    return Collection(documents, {row["id"]: row["question"] for row in queries}, relevant)


def read_eol(data: Path) -> Collection:
    """Read the support pages; the questions are a fixed sample of the last quarter's facts."""
    folder = data / "eol/snapshot_27"
    documents = [_document(path.name, path.read_text("utf-8")) for path in sorted((folder / "kb").glob("*.md"))]
    facts = sorted(_rows(folder / "facts.jsonl"), key=lambda row: str(row["id"]))
    sample = random.Random(SEED).sample(facts, FACTS)
    return Collection(
        documents, {row["id"]: row["question"] for row in sample}, {row["id"]: {row["doc"]: 1} for row in sample}
    )


COLLECTIONS: Mapping[str, Callable[[Path], Collection]] = {
    "medquad": read_medquad,
    "django_docs": read_django,
    "eol": read_eol,
}
NEEDED = ("medquad/corpus.jsonl", "django_docs/queries.jsonl", "django_docs/snapshot_00", "eol/snapshot_27/facts.jsonl")


def _document(name: str, text: str) -> Document:
    return Document(id=name, text=text, digest=hashlib.md5(text.encode()).hexdigest())


def _titled(title: str, text: str) -> str:
    return f"# {title}\n\n{text}" if title else text


def _as_rst(path: PurePath) -> str:
    return path.with_suffix(".rst").as_posix()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- searches ------------------------------------------------------------------------------------------------------


def measure(collection: Collection, work: Path) -> dict[str, Any]:
    """Score every search method on one collection; the result is in the form of the results file."""
    retriever, passages = build(collection, work)
    by_method: dict[str, SearchScores] = {
        method: score(search(retriever, collection, method), collection) for method in METHODS
    }
    by_method[BASELINE] = score(plain_bm25(collection), collection)
    better = max(("vector", "text"), key=lambda method: by_method[method].at10.ndcg10)
    return {
        "documents": len(collection.documents),
        "passages": passages,
        "questions": len(collection.questions),
        "methods": {name: scores.row() for name, scores in by_method.items()},
        "hybrid ndcg@10 minus": {name: _gain(by_method["hybrid"], by_method[name]) for name in (better, BASELINE)},
    }


def build(collection: Collection, work: Path, embedder: Embedder | None = None) -> tuple[Retriever, int]:
    """Update the collection's index at `work` with Ragtide's chunker; return a retriever and the number of rows.

    Without `embedder`, Ragtide's default embedder is used.
    """
    params = Params()
    index = Index(str(work), embedder or load_models(params).embedder, params.chunk)
    chunks = chunk_documents(collection.documents, params.chunk)
    # A kept index with another chunker or embedder is rebuilt.
    built = index.refresh(InMemorySource.of(chunks), work.name, progress_bars, rebuild=True)
    return index.retriever(built.version), built.rows


def search(retriever: Retriever, collection: Collection, method: Method) -> Rankings:
    """Return the documents that Ragtide retrieves for each question."""
    rankings = retriever.search(list(collection.questions.values()), PASSAGES, by=method)
    ranked = (unique_documents(passage.document for passage in passages) for passages in rankings)
    return dict(zip(collection.questions, ranked, strict=True))


def plain_bm25(collection: Collection) -> Rankings:
    """Rank by BM25 over whole documents with bm25s' defaults: Lucene's variant, k1 1.5, b 0.75, English stop words."""
    model = bm25s.BM25()
    model.index(_tokens(document.text for document in collection.documents), show_progress=False)
    places_by_question, weights_by_question = model.retrieve(
        _tokens(collection.questions.values()), k=PASSAGES, show_progress=False
    )
    rankings = {}
    for question, places, weights in zip(collection.questions, places_by_question, weights_by_question, strict=True):
        # bm25s fills the ranking up with documents that share no word with the question.
        hits = [place for place, weight in zip(places, weights, strict=True) if weight > 0]
        rankings[question] = [collection.documents[place].id for place in hits]
    return rankings


def _tokens(texts: Iterable[str]) -> Any:
    return bm25s.tokenize(list(texts), lower=True, stopwords="en", show_progress=False)


def score(rankings: Rankings, collection: Collection) -> SearchScores:
    """Score a search's rankings at both depths."""
    return SearchScores(*(score_rankings(rankings, collection.relevant, k) for k in (3, 10)))


def _gain(hybrid: SearchScores, other: SearchScores) -> dict[str, float | None]:
    gain = paired_difference(other.at10.values("ndcg10"), hybrid.at10.values("ndcg10"), INTERVAL)
    return {"value": gain.value, "low": gain.low, "high": gain.high}


# --- results -------------------------------------------------------------------------------------------------------


def report(results: Mapping[str, dict[str, Any]]) -> None:
    """Write the results file, and the tables to the terminal and into bench/README.md."""
    content = {"made by": provenance(), "versions": {name: version(name) for name in LIBRARIES}, "sets": results}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tables = [_scores(results), _gains(results)]
    for head, rows in tables:
        _show(head, rows)
    put_table("retrieval", "\n\n".join(markdown_table(head, rows) for head, rows in tables))


def _scores(results: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [f"{name} ({result['questions']})", method, *(f"{value:.3f}" for value in scores.values())]
        for name, result in results.items()
        for method, scores in result["methods"].items()
    ]
    return ["set (questions)", "search", "recall@3", "recall@10", "nDCG@10", "MRR@10"], rows


def _gains(results: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [name, f"hybrid − {other}", f"{gain['value']:+.3f}", f"{gain['low']:+.3f} … {gain['high']:+.3f}"]
        for name, result in results.items()
        for other, gain in result["hybrid ndcg@10 minus"].items()
    ]
    return ["set", "nDCG@10", "difference", "95 % interval"], rows


def _show(head: list[str], rows: list[list[str]]) -> None:
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
