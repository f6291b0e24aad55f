"""Fingerprints of an index, and the check whether it is current, from digests alone: no table or model is opened."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

from ragtide.pipelines.data.documents import read_quarantine
from ragtide.pipelines.data.formats.converter import CONVERTER
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.chunking import CHUNKER
from ragtide.pipelines.params import ChunkParams, EmbedParams
from ragtide.pipelines.ports import Embedder
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import BuiltIndex
from ragtide.pipelines.workspace import Workspace

TABLE = "chunks"
# How lance 7 names the manifest of a version, so that the newest comes first in a listing.
NEWEST_FIRST = 2**64 - 1


def vector_fingerprint(embedder: Embedder, embed: EmbedParams) -> str:
    """Identifies the vectors: changes whenever the same text would get another one."""
    return json_digest([embedder.fingerprint, embedder.dimensions, embed.document_prefix, embed.query_prefix])


def index_fingerprint(embedder: Embedder, chunk: ChunkParams, embed: EmbedParams) -> str:
    """Identifies chunks and vectors: changes whenever the same document would get others.

    See invariant embedder-in-index, docs/invariants.md.
    """
    chunking = [CONVERTER, CHUNKER, chunk.model_dump(mode="json")]
    return json_digest([vector_fingerprint(embedder, embed), chunking])


def current_index(workspace: Workspace, snapshot: Snapshot, embedder: Embedder) -> BuiltIndex | None:
    """The index in artifacts/index.json if a refresh for `snapshot` would not change it; else None.

    None is always safe: the refresh then compares the rows themselves. The record counts only if its version still
    exists, no document awaits a retry or an approval, and it was made with the same settings.
    """
    built, table = last_built_index(workspace), local_table_folder(workspace.index_uri)
    if table is None or built is None:
        return None
    # An exhausted document is due again with another converter; the rows of an unusable file are kept until it is
    # deleted.
    quarantined = read_quarantine(workspace).documents
    unusable = {document.document for document in quarantined if document.digest is None}
    same_documents = built.documents == snapshot.kb_id and unusable == snapshot.unusable.keys()
    is_settled = not built.waiting and len(quarantined) == built.quarantined
    if (
        not (same_documents and is_settled)
        or built.uri != workspace.index_uri
        or not _has_version(table, built.version)
    ):
        return None
    params = workspace.params
    return built if built.fingerprint == index_fingerprint(embedder, params.chunk, params.embed) else None


def last_built_index(workspace: Workspace) -> BuiltIndex | None:
    """The index that was built last, from artifacts/index.json; None if that is missing or unreadable."""
    path = workspace.index_artifact
    try:
        return BuiltIndex.read(path) if path.is_file() else None
    except UserError:
        return None


def local_table_folder(uri: str) -> Path | None:
    """The folder of the index's table; None if it is not on this machine."""
    return None if len(urlparse(uri).scheme) > 1 else Path(uri) / f"{TABLE}.lance"


def _has_version(table: Path, version: int) -> bool:
    return (table / "_versions" / f"{NEWEST_FIRST - version:020d}.manifest").is_file()
