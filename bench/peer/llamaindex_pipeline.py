"""Index update by LlamaIndex: an IngestionPipeline with the docstore strategy "upserts and delete", into LanceDB.

    python -m bench.peer.llamaindex_pipeline PAGES STATE

Its unit is the document: a changed document is deleted, chunked again and embedded as a whole.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import BaseNode, Document, NodeRelationship, TextNode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore

from bench.peer.embedder import AT_ONCE, TABLE, CountedModel, chunk_texts, folders, read_pages, report


class Store(LanceDBVectorStore):
    """LanceDBVectorStore with a corrected `delete`.

    In 0.6.0 it puts the id in double quotes, which LanceDB reads as a column's name from 0.38 on, so that every change
    of a document raises (run-llama/llama_index, pull request 23087).
    """

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        quoted = ref_doc_id.replace("'", "''")
        self.table.delete(f"{self.doc_id_key} = '{quoted}'")


class Splitter(TransformComponent):
    """Adapter of Ragtide's chunker to LlamaIndex's interface."""

    def __call__(self, nodes: list[BaseNode], **_: Any) -> list[BaseNode]:
        return [self._node(page, text) for page in nodes for text in chunk_texts(page.node_id, page.get_content())]

    def _node(self, page: BaseNode, text: str) -> TextNode:
        source = {NodeRelationship.SOURCE: page.as_related_node_info()}
        return TextNode(text=text, relationships=source)


class Embedder(BaseEmbedding):
    """Adapter of the counted model to LlamaIndex's interface."""

    _counted: CountedModel = PrivateAttr()

    def __init__(self, model: CountedModel) -> None:
        super().__init__(model_name="all-MiniLM-L6-v2", embed_batch_size=AT_ONCE)
        self._counted = model

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._counted.encode(texts).tolist()  # type: ignore[no-any-return]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def main() -> None:
    """Bring the index up to date with the pages."""
    pages, state = folders()
    model = CountedModel()
    pipeline = IngestionPipeline(
        transformations=[Splitter(), Embedder(model)],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        vector_store=Store(uri=str(state / "lance"), table_name=TABLE),
        # The cache only helps for a set of changed documents that was seen before, and every run reads all of it.
        disable_cache=True,
    )
    if (state / "pipeline").is_dir():
        pipeline.load(str(state / "pipeline"))
    documents = [Document(doc_id=name, text=page) for name, page in read_pages(pages).items()]
    pipeline.run(documents=documents)
    pipeline.persist(str(state / "pipeline"))
    report(model)


if __name__ == "__main__":
    main()
