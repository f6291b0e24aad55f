"""Is the index what the folder says? Answered from digests alone, without opening a table or loading a model."""

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
    """Changes whenever the same text would get another vector."""
    return json_digest([embedder.fingerprint, embedder.dimensions, embed.document_prefix, embed.query_prefix])


def index_fingerprint(embedder: Embedder, chunk: ChunkParams, embed: EmbedParams) -> str:
    """Changes whenever the same document would get other chunks, or a chunk another vector (law 9)."""
    cutting = [CONVERTER, CHUNKER, chunk.model_dump(mode="json")]
    return json_digest([vector_fingerprint(embedder, embed), cutting])


def current_index(workspace: Workspace, snapshot: Snapshot, embedder: Embedder) -> BuiltIndex | None:
    """The index of artifacts/index.json, where a refresh for `snapshot` could only bring the same; else None.

    None is always safe: the refresh then looks for itself. A note is believed only where the version that it names is
    still in the table, nothing waits for another try or an approval, and it was made under the same settings.
    """
    built, table = last_built_index(workspace), local_table_folder(workspace.index_uri)
    if table is None or built is None:
        return None
    # A document that was given up is due again once there are other means to read it; the rows of one that became
    # unusable stayed, and go once it is gone.
    aside = read_quarantine(workspace).documents
    as_before = {one.document for one in aside if one.digest is None} == snapshot.unusable.keys()
    same = built.documents == snapshot.kb_id and not built.waiting and len(aside) == built.quarantined and as_before
    if not same or built.uri != workspace.index_uri or not _has_version(table, built.version):
        return None
    params = workspace.params
    return built if built.fingerprint == index_fingerprint(embedder, params.chunk, params.embed) else None


def last_built_index(workspace: Workspace) -> BuiltIndex | None:
    """What artifacts/index.json says was built last; None where there is none, or none that can be read."""
    note = workspace.artifacts / "index.json"
    try:
        return BuiltIndex.read(note) if note.is_file() else None
    except UserError:
        return None


def local_table_folder(uri: str) -> Path | None:
    """The folder of the index's table; None where it is not on this machine."""
    return None if len(urlparse(uri).scheme) > 1 else Path(uri) / f"{TABLE}.lance"


def _has_version(table: Path, version: int) -> bool:
    return (table / "_versions" / f"{NEWEST_FIRST - version:020d}.manifest").is_file()
