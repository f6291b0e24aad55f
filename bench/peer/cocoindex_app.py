"""Index update by CocoIndex: an App whose functions are memoised by page and by text, into LanceDB.

    python -m bench.peer.cocoindex_app PAGES STATE

An unchanged page is not read again, and a text that was embedded before, under the same page, is not embedded again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cocoindex as coco
import numpy as np
from cocoindex.connectors import lancedb, localfs
from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from cocoindex.resources.id import IdGenerator
from cocoindex.resources.schema import VectorSchema
from numpy.typing import NDArray

from bench.peer.embedder import DIMENSIONS, TABLE, CountedModel, chunk_texts, folders, report

PAGES, STATE = folders()
MODEL = CountedModel()
LANCE = coco.ContextKey[lancedb.LanceAsyncConnection]("lance")
EMBEDDER = coco.ContextKey[SentenceTransformerEmbedder]("embedder")


class Embedder(SentenceTransformerEmbedder):
    """CocoIndex's own embedder, with the counted model in it; it loads the model on first use."""

    def _get_model(self) -> Any:
        return MODEL


@dataclass
class Row:
    """A row of the table. The vector's width is a constant, since asking the embedder for it loads the model."""

    id: int
    page: str
    text: str
    vector: Annotated[NDArray[np.float32], VectorSchema(np.dtype(np.float32), DIMENSIONS)]


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.settings.db_path = STATE / "cocoindex.db"
    builder.provide(LANCE, await lancedb.connect_async(str(STATE / "lance")))
    builder.provide(EMBEDDER, Embedder("all-MiniLM-L6-v2", device="cpu"))
    yield


@coco.fn
async def declare_chunk(text: str, page: str, ids: IdGenerator, table: lancedb.TableTarget[Row]) -> None:
    vector = await coco.use_context(EMBEDDER).embed(text)
    table.declare_row(row=Row(id=await ids.next_id(text), page=page, text=text, vector=vector))


@coco.fn(memo=True)
async def declare_page(file: FileLike, table: lancedb.TableTarget[Row]) -> None:
    page = file.file_path.path.as_posix()
    texts = chunk_texts(page, await file.read_text())
    await coco.map(declare_chunk, texts, page, IdGenerator(), table)


@coco.fn
async def declare_index(pages: Path) -> None:
    schema = await lancedb.TableSchema.from_class(Row, primary_key=["id"])
    table = await lancedb.mount_table_target(LANCE, table_name=TABLE, table_schema=schema)
    files = localfs.walk_dir(pages, recursive=True, path_matcher=PatternFilePathMatcher(included_patterns=["**/*.rst"]))
    await coco.mount_each(declare_page, files.items(), table)


def main() -> None:
    """Bring the index up to date with the pages."""
    coco.App(coco.AppConfig(name="peers"), declare_index, pages=PAGES).update_blocking()
    report(MODEL)


if __name__ == "__main__":
    main()
