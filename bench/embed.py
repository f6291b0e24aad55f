"""Speed of the embedder, and agreement of its vectors, compared with sentence-transformers' default settings.

    python -m bench.embed --data FOLDER

FOLDER holds django_docs/snapshot_00. Each embedder embeds 500 of its chunks, one embedder after the other, --repeats
times; medians are compared. It takes about 3 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.tables import markdown_table, provenance, put_table

RESULTS = Path(__file__).parent / "results" / "embed.json"
CHUNKS, WARM_UP, SEED = 500, 16, 20261124
REFERENCE = "sentence-transformers, default (float32, batches of 32)"


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not (options.data / "django_docs/snapshot_00").is_dir():
        sys.stderr.write(
            f"bench.embed: {options.data} has no django_docs/snapshot_00: pass the data folder with --data\n"
        )
        return 1
    measure(sample(options.data / "django_docs/snapshot_00"), options.repeats)
    return 0


def sample(folder: Path) -> list[str]:
    """Return chunk texts of the product's chunker, drawn at random without repetition."""
    from ragtide.pipelines.index.chunking import chunk_document
    from ragtide.pipelines.params import ChunkParams
    from ragtide.pipelines.records.data import Document

    pages = sorted(folder.rglob("*.txt"))
    documents = (Document(id=f"{page.stem}.rst", text=page.read_text(encoding="utf-8"), digest="") for page in pages)
    texts = {chunk.text for document in documents for chunk in chunk_document(document, ChunkParams())}
    return random.Random(SEED).sample(sorted(texts), CHUNKS)


def embedders() -> dict[str, Callable[[list[str]], Any]]:
    """Return the embedding functions by name; int8 only if its library (nncf) is installed."""
    from importlib.util import find_spec

    from ragtide.pipelines.models.embedder import OpenVinoEmbedder, TorchEmbedder, locate_embedder
    from ragtide.pipelines.models.openvino_export import load_sentence_transformer
    from ragtide.pipelines.params import EmbedParams

    default = load_sentence_transformer(locate_embedder(EmbedParams().model), "cpu")
    functions: dict[str, Callable[[list[str]], Any]] = {
        REFERENCE: lambda texts: default.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        "Ragtide, backend torch": TorchEmbedder(EmbedParams(device="cpu")).embed,
        "Ragtide, backend openvino (the default)": OpenVinoEmbedder(EmbedParams(device="cpu")).embed,
    }
    if find_spec("nncf"):
        int8 = EmbedParams(device="cpu", precision="int8")
        functions["Ragtide, backend openvino, int8"] = OpenVinoEmbedder(int8).embed
    return functions


def measure(texts: list[str], repeats: int) -> None:
    """Time each embedder `repeats` times, alternating; report medians and cosines to the reference's vectors."""
    seconds: dict[str, list[float]] = {}
    vectors: dict[str, Any] = {}
    compared = embedders()
    for embed in compared.values():
        embed(texts[:WARM_UP])
    for _ in range(repeats):
        for name, embed in compared.items():
            started = time.perf_counter()
            vectors[name] = np.asarray(embed(texts))
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    reference = vectors[REFERENCE]
    report(texts, seconds, {name: np.sum(rows * reference, axis=1) for name, rows in vectors.items()})


def report(texts: list[str], seconds: dict[str, list[float]], cosines: dict[str, Any]) -> None:
    """Write results/embed.json and the table."""
    medians = {name: median(timings) for name, timings in seconds.items()}
    rows = {
        name: {
            "chunks_per_second": round(len(texts) / medians[name], 1),
            "speedup_vs_sentence_transformers": round(medians[REFERENCE] / medians[name], 2),
            "mean_cosine": round(float(np.mean(cosines[name])), 6),
            "lowest_cosine": round(float(np.min(cosines[name])), 6),
            "seconds": [round(timing, 3) for timing in timings],
        }
        for name, timings in seconds.items()
    }
    default = rows["Ragtide, backend openvino (the default)"]
    head = {key: default[key] for key in ("speedup_vs_sentence_transformers", "mean_cosine")}
    RESULTS.write_text(json.dumps({**head, "chunks": len(texts), "sides": rows, "of": provenance()}, indent=2) + "\n")
    table = [
        (name, *(str(row[key]) for key in ("chunks_per_second", "speedup_vs_sentence_transformers", "mean_cosine")))
        for name, row in rows.items()
    ]
    columns = ("embedder", "chunks per second", "speedup over the first row", "mean cosine to the first row")
    put_table("embed", markdown_table(columns, table))


if __name__ == "__main__":
    sys.exit(main())
