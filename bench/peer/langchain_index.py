"""Index update by LangChain: `index()` with a record manager and clean-up "full", into LanceDB.

    python -m bench.peer.langchain_index PAGES STATE

A chunk's record is the hash of its text and metadata, so only new chunks are embedded. The metadata name the page but
not the position, since otherwise every chunk after an insertion would be new.
"""

from __future__ import annotations

import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)  # It says that the package is being retired.

from langchain_classic.indexes import SQLRecordManager, index  # noqa: E402
from langchain_community.vectorstores.lancedb import LanceDB  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402

from bench.peer.embedder import AT_ONCE, TABLE, CountedModel, chunk_texts, folders, read_pages, report  # noqa: E402


class Embedder(Embeddings):
    """Adapter of the counted model to LangChain's interface."""

    def __init__(self, model: CountedModel) -> None:
        self._model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._model.encode(texts).tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def main() -> None:
    """Bring the index up to date with the pages."""
    pages, state = folders()
    model = CountedModel()
    records = SQLRecordManager("pages", db_url=f"sqlite:///{state.resolve()}/records.db")
    records.create_schema()
    # Its default mode, "overwrite", replaces the whole table with every batch that is added.
    store = LanceDB(uri=str(state / "lance"), table_name=TABLE, embedding=Embedder(model), mode="append")
    documents = [
        Document(page_content=text, metadata={"source": name})
        for name, page in read_pages(pages).items()
        for text in chunk_texts(name, page)
    ]
    index(
        documents,
        records,
        store,
        cleanup="full",
        source_id_key="source",
        batch_size=AT_ONCE,
        key_encoder="blake2b",
    )
    report(model)


if __name__ == "__main__":
    main()
