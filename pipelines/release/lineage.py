"""What went into an adapter, and which adapters have seen a document? A deleted document flags those that saw it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ragtide.pipelines.corpus import DocumentFolder
from ragtide.pipelines.data.documents import supported_documents
from ragtide.pipelines.data.jsonl import read_earlier_lines
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.deletions import find_deleted
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.training.examples import Example, TrainingLine
from ragtide.pipelines.workspace import Workspace

# A tag on every release whose adapter has seen a document that is gone; it is never taken away.
SAW_DELETED = "saw_deleted"


class DeletedDocuments:
    """Which documents are gone from the folder: neither renamed, nor unreadable, nor waiting for an approval."""

    def __init__(self, workspace: Workspace, snapshot: Snapshot, held: Iterable[str]) -> None:
        self._workspace = workspace
        self._now = supported_documents(snapshot)
        self._kept = {*held, *snapshot.unusable}

    @cached_property
    def _earlier(self) -> list[Mapping[str, str]]:
        return [*earlier_documents(self._workspace)]

    def among(self, seen: Mapping[str, str]) -> tuple[str, ...]:
        """Those of `seen` (name -> digest of then) that are gone. One edited and then renamed is not."""
        missing = {name: digest for name, digest in seen.items() if name not in self._now}
        if not missing:
            return ()
        last = {name: self._last_known(name) or digest for name, digest in missing.items()}
        then, later = (find_deleted(one, self._now, self._kept, self._earlier) for one in (missing, last))
        return tuple(sorted(then.keys() & later.keys()))

    def _last_known(self, name: str) -> str | None:
        return next((documents[name] for documents in self._earlier if name in documents), None)


def deleted_training_documents(model: BuiltModel, deletions: DeletedDocuments) -> tuple[str, ...]:
    """The documents that a model was taught from and that are gone."""
    return deletions.among({name: digest for name, digest in model.documents.items() if name in model.source_documents})


def deleted_seen_documents(project: Project, model: BuiltModel, snapshot: Snapshot) -> tuple[str, ...]:
    """Of the documents that a model has seen those that are gone from `snapshot`: for a look, without a corpus."""
    if model.documents.keys() <= supported_documents(snapshot).keys():
        return ()
    live = project.registry.champion()
    folder = DocumentFolder(project.workspace, snapshot, project.index.documents(live.index_tag) if live else {})
    return DeletedDocuments(project.workspace, snapshot, folder.pending_deletions).among(model.documents)


def releases_to_flag(project: Project, evidence: Evidence) -> list[Release]:
    """The releases that may have to be flagged: all where documents leave now, else the live one, which is at hand."""
    if evidence.data.changes.removed or evidence.data.delta.documents_deleted:
        return project.registry.releases()
    live = project.registry.champion()
    return [live] if live else []


def flag_releases(project: Project, releases: Iterable[Release], deletions: DeletedDocuments) -> None:
    """Mark every release whose adapter has seen a document that is gone, the live one or not (law 6)."""
    for release in releases:
        if gone := deletions.among(release.model.documents):
            project.registry.tag_release(release.id, {SAW_DELETED: list_some(gone)})


# --- looking it up -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenDocument:
    """A document that stood before a model in training, whether answers were taught from it, and what it is now."""

    name: str
    is_source: bool
    now: str


@dataclass(frozen=True)
class SeenExample:
    """An example that a model learnt from, by its digest; `content` is None where no file that is left holds it."""

    digest: str
    content: Example | None


@dataclass(frozen=True)
class Lineage:
    """What went into an adapter, and the releases that answer with it."""

    model: BuiltModel
    releases: tuple[str, ...]
    examples: tuple[SeenExample, ...]
    documents: tuple[SeenDocument, ...]


@dataclass(frozen=True)
class Sighting:
    """A release whose adapter has seen a document, and how."""

    release: str
    adapter: str
    is_live: bool
    is_source: bool


def release_with_adapter(project: Project, adapter: str | None) -> Release:
    """The newest release that answers with an adapter; without a name, the live one. Raises RefusalError for none."""
    if adapter is None:
        live = project.registry.champion()
        if live is None:
            raise UserError("nothing is live yet: `ragtide run` makes the first release")
        return live
    known = [release for release in project.registry.releases() if release.model.adapter]
    found = [release for release in known if release.model.adapter == adapter]
    if not found:
        names = ", ".join(dict.fromkeys(str(release.model.adapter) for release in known)) or "none yet"
        raise UserError(f"no release answers with the adapter {adapter!r}; known: {names}")
    return found[-1]


def lineage_of(project: Project, release: Release, snapshot: Snapshot) -> Lineage:
    """What went into a release's adapter; `snapshot` is what is in the folders now.

    Raises RefusalError where it has none, or where it was made before that was written down.
    """
    model = release.model
    if model.adapter is None:
        raise UserError(f"release {release.id} has no adapter: it answers with the base model, {model.base}")
    if not model.documents and not model.trained_on:
        raise UserError(f"adapter {model.adapter} was made before it was written down what goes into one: retrain")
    releases = tuple(one.id for one in project.registry.releases() if one.model.adapter == model.adapter)
    return Lineage(model, releases, _examples(project, release), _documents(project, model, snapshot))


def sightings(project: Project, document: str) -> tuple[Sighting, ...]:
    """The releases whose adapters have seen a document, oldest first."""
    live = project.registry.live_release_id()
    return tuple(
        Sighting(one.id, str(one.model.adapter), one.id == live, document in one.model.source_documents)
        for one in project.registry.releases()
        if document in one.model.documents
    )


def _examples(project: Project, release: Release) -> tuple[SeenExample, ...]:
    """The examples by their digests, found again in the files that they came from."""
    files = release.model.files or release.snapshot.examples
    lines = [Example.of(line, where) for where, line in read_earlier_lines(project.workspace, files, TrainingLine)]
    found = {example.digest: example for example in reversed(lines)}
    return tuple(SeenExample(digest, found.get(digest)) for digest in release.model.trained_on)


def _documents(project: Project, model: BuiltModel, snapshot: Snapshot) -> tuple[SeenDocument, ...]:
    gone, now = set(deleted_seen_documents(project, model, snapshot)), supported_documents(snapshot)
    return tuple(
        SeenDocument(name, name in model.source_documents, _became(name, digest, now, gone))
        for name, digest in sorted(model.documents.items())
    )


def _became(name: str, digest: str, now: Mapping[str, str], gone: set[str]) -> str:
    if name in gone:
        return "gone"
    if name not in now:
        return "renamed, or its removal waits"
    return "as it was" if now[name] == digest else "edited since"
