"""Adapter lineage: the examples and documents that an adapter was trained on, and flags for deleted ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from ragtide.pipelines.data.documents import supported_documents
from ragtide.pipelines.data.jsonl import read_earlier_lines
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.deletions import find_deleted
from ragtide.pipelines.index.folder import DocumentFolder, IndexVersion
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.training.examples import Example, TrainingLine
from ragtide.pipelines.workspace import Workspace

# A tag on every release whose adapter was trained with a document that has been deleted; it is never removed.
SAW_DELETED = "saw_deleted"


class DeletedDocuments:
    """The documents that were deleted from the folder: neither moved, nor unreadable, nor pending approval."""

    def __init__(
        self, workspace: Workspace, snapshot: Snapshot, pending: Iterable[str], paths: DocumentPaths | None = None
    ) -> None:
        self._workspace = workspace
        self._paths = paths or DocumentPaths()
        self._current = supported_documents(snapshot)
        self._not_deleted = {*pending, *snapshot.unusable}

    @cached_property
    def _earlier(self) -> list[Mapping[str, str]]:
        return [*earlier_documents(self._workspace)]

    def among(self, seen: Mapping[str, str]) -> tuple[str, ...]:
        """Return those of `seen` (name -> digest when seen) that were deleted; one that was edited and moved is not."""
        missing = {
            name: digest
            for name, digest in seen.items()
            if name not in self._current and not self._paths.moved_to(name)
        }
        if not missing:
            return ()
        latest = {name: self._latest_digest(name) or digest for name, digest in missing.items()}
        by_seen_digest, by_latest_digest = (
            find_deleted(documents, self._current, self._not_deleted, self._earlier) for documents in (missing, latest)
        )
        return tuple(sorted(by_seen_digest.keys() & by_latest_digest.keys()))

    def _latest_digest(self, name: str) -> str | None:
        return next((documents[name] for documents in self._earlier if name in documents), None)


def deleted_training_documents(model: BuiltModel, deletions: DeletedDocuments) -> tuple[str, ...]:
    """Return the deleted documents that state an answer on which a model was trained."""
    return deletions.among({name: digest for name, digest in model.documents.items() if name in model.source_documents})


def deleted_seen_documents(project: Project, model: BuiltModel, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the documents in a model's training contexts that are deleted in `snapshot`; reads no corpus."""
    if model.documents.keys() <= supported_documents(snapshot).keys():
        return ()
    live = project.registry.champion()
    before = IndexVersion(project.index, live.index_tag if live else None, live.former_paths if live else {})
    folder = DocumentFolder(project.workspace, snapshot, before)
    return DeletedDocuments(project.workspace, snapshot, folder.pending_deletions, folder.paths).among(model.documents)


def releases_to_flag(project: Project, evidence: Evidence) -> list[Release]:
    """Return the releases to check for deleted documents: all where documents are deleted now, else the live one."""
    if evidence.data.changes.removed or evidence.data.delta.documents_deleted:
        return project.registry.releases()
    live = project.registry.champion()
    return [live] if live else []


def flag_releases(project: Project, releases: Iterable[Release], deletions: DeletedDocuments) -> None:
    """Tag every release whose adapter was trained with a deleted document.

    This keeps invariant deleted-is-gone (docs/invariants.md), for live and earlier releases alike.
    """
    for release in releases:
        if deleted := deletions.among(release.model.documents):
            project.registry.tag_release(release.id, {SAW_DELETED: list_some(deleted)})


class DocumentState(StrEnum):
    """What has become of a document since a model was trained with it."""

    UNCHANGED = "unchanged"
    EDITED = "edited since"
    MOVED_OR_PENDING = "renamed, or its deletion is pending approval"
    DELETED = "deleted"


@dataclass(frozen=True)
class SeenDocument:
    """A document in a model's training contexts; `is_source` where it states answers on which the model was trained."""

    name: str
    is_source: bool
    state: DocumentState


@dataclass(frozen=True)
class SeenExample:
    """A training example by its digest; `content` is None where no remaining file has it."""

    digest: str
    content: Example | None


@dataclass(frozen=True)
class Lineage:
    """The examples and documents that an adapter was trained on, and the releases that have it."""

    model: BuiltModel
    releases: tuple[str, ...]
    examples: tuple[SeenExample, ...]
    documents: tuple[SeenDocument, ...]


@dataclass(frozen=True)
class Sighting:
    """A release whose adapter was trained with a document; `is_source` as in SeenDocument."""

    release: str
    adapter: str
    is_live: bool
    is_source: bool


def release_with_adapter(project: Project, adapter: str | None) -> Release:
    """Return the newest release with an adapter; None stands for the live release. Raises UserError for none."""
    if adapter is None:
        return project.registry.live()
    with_adapter = [release for release in project.registry.releases() if release.model.adapter]
    matching = [release for release in with_adapter if release.model.adapter == adapter]
    if not matching:
        names = ", ".join(dict.fromkeys(str(release.model.adapter) for release in with_adapter)) or "none yet"
        raise UserError(f"no release has the adapter {adapter!r}; known adapters: {names}")
    return matching[-1]


def lineage_of(project: Project, release: Release, snapshot: Snapshot) -> Lineage:
    """Return the lineage of a release's adapter; `snapshot` is the current one.

    Raises UserError where the release has no adapter.
    """
    model = release.model
    if model.adapter is None:
        raise UserError(f"release {release.id} has no adapter: it uses the base model {model.base} alone")
    releases = tuple(other.id for other in project.registry.releases() if other.model.adapter == model.adapter)
    return Lineage(model, releases, _examples(project, release), _documents(project, model, snapshot))


def sightings(project: Project, document: str) -> tuple[Sighting, ...]:
    """Return the releases whose adapters were trained with a document, oldest first."""
    live = project.registry.live_release_id()
    return tuple(
        Sighting(release.id, str(release.model.adapter), release.id == live, document in release.model.source_documents)
        for release in project.registry.releases()
        if document in release.model.documents
    )


def _examples(project: Project, release: Release) -> tuple[SeenExample, ...]:
    """Return the training examples, with their content where a file that they came from still exists."""
    files = release.model.files
    examples = [Example.of(line, where) for where, line in read_earlier_lines(project.workspace, files, TrainingLine)]
    by_digest = {example.digest: example for example in reversed(examples)}
    return tuple(SeenExample(digest, by_digest.get(digest)) for digest in release.model.trained_on)


def _documents(project: Project, model: BuiltModel, snapshot: Snapshot) -> tuple[SeenDocument, ...]:
    deleted, current = set(deleted_seen_documents(project, model, snapshot)), supported_documents(snapshot)
    return tuple(
        SeenDocument(name, name in model.source_documents, _state(name, digest, current, deleted))
        for name, digest in sorted(model.documents.items())
    )


def _state(name: str, digest: str, current: Mapping[str, str], deleted: set[str]) -> DocumentState:
    if name in deleted:
        return DocumentState.DELETED
    if name not in current:
        return DocumentState.MOVED_OR_PENDING
    return DocumentState.UNCHANGED if current[name] == digest else DocumentState.EDITED
