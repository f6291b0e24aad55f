"""Difference between the live rows and the chunks that an index is to hold, counted before anything is built."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ragtide.pipelines.index.rows import Ledger
from ragtide.pipelines.records.data import Chunk, IndexDelta


def count_delta(
    live: Ledger, chunks: Sequence[Chunk], known: set[str], rebuild: str | None, moved: Collection[str] = ()
) -> IndexDelta:
    """What making the live rows equal to `chunks` would change.

    `known` are the digests that have a vector; `rebuild` says why no live row can be kept, if so; `moved` are the live
    documents that stand under another name, edited or not.
    """
    wanted = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in chunks}
    before, after = {digest for digest, _ in live.values()}, {chunk.digest for chunk in chunks}
    wanted_contents = {chunk.document_digest for chunk in chunks}
    deleted = {document for document, _ in live} - {document for document, _ in wanted}
    renamed = {
        document
        for (document, _), (_, content) in live.items()
        if document in deleted and (document in moved or content in wanted_contents)
    }
    return IndexDelta(
        chunks_after=len(chunks),
        chunks_before=len(live),
        new=sum(chunk.digest not in before for chunk in chunks),
        removed=sum(digest not in after for digest, _ in live.values()),
        upserted=len(wanted) if rebuild else sum(live.get(key) != row for key, row in wanted.items()),
        deleted=sum(key not in wanted for key in live),
        to_embed=len(after - known),
        documents_deleted=len(deleted),
        documents_renamed=len(renamed),
        rebuild=rebuild,
    )
