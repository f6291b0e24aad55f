"""What belongs to one project? Its folder, models and registry, opened once and passed from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.build.candidate import adapter_folder, index_of, open_index, untrained
from pipelines.build.corpus import Corpus, read_corpus
from pipelines.build.index import Index
from pipelines.build.models import Models, load_models
from pipelines.build.search import Reader
from pipelines.errors import RefusalError
from pipelines.ports import Progress
from pipelines.prove.answer import Answer, Answerer, Assistant
from pipelines.prove.attribution import Examiner, Subject
from pipelines.prove.questions import read_golden
from pipelines.publish.registry import Registry
from pipelines.records import BuiltIndex, Release, Snapshot
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Project:
    """Everything that a step needs besides its input."""

    workspace: Workspace
    models: Models
    registry: Registry
    progress: Progress

    @classmethod
    def open(cls, root: Path, progress: Progress) -> Project:
        """Open the project at `root`; no model is loaded before it is used."""
        workspace = Workspace.open(root)
        return cls(workspace, load_models(workspace.params), Registry(workspace), progress)

    @property
    def index(self) -> Index:
        return open_index(self.workspace, self.models.embedder)

    def reader(self, built: BuiltIndex, tag: str | None = None) -> Reader:
        """A reader of an index as it was built, by its tag or its version, under the settings of that time."""
        return index_of(self.workspace, self.models.embedder, built).reader(tag or built.version)

    def corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """What `snapshot` holds, as the index is to have it; with `keep` it is written down what cannot be read."""
        live = self.registry.champion()
        # Before the first release, what an index that was built alone holds is not to vanish unasked either.
        version = live.index_tag if live else self.index.latest()
        return read_corpus(self.workspace, snapshot, self.index, version, keep)

    def examiner(self, corpus: Corpus) -> Examiner:
        """Asks the golden questions that the corpus can answer."""
        golden = read_golden(self.workspace.golden, corpus.snapshot.questions, corpus.texts)
        if not golden.questions:
            what = f"all {len(golden.stale)} golden questions are stale: their documents hold none of their answers"
            raise RefusalError(f"{self.workspace.golden}: {what}; mend `answers` and `docs`")
        return Examiner(corpus, golden, Answerer(self.workspace, self.models, self.progress), self.workspace.params)

    def subject(self, release: Release | None) -> Subject:
        """A release, or before the first the base model alone, to be measured."""
        if release is None:
            return Subject(reader=None, model=untrained(self.models))
        self._have_adapter(release)
        return Subject(reader=self.reader(release.index, release.index_tag), model=release.model)

    def serves(self, release: Release) -> None:
        """Raise RefusalError where a release's index or adapter is gone; loads no model."""
        if not self.index.has_tag(release.index_tag):
            raise RefusalError(f"the index has no tag {release.index_tag} any more: release {release.id} is not whole")
        self._have_adapter(release)

    def ask(self, question: str) -> tuple[Release, Answer]:
        """Answer from the live release, whole. Raises RefusalError where nothing is live."""
        release = self.registry.champion()
        if release is None:
            raise RefusalError("nothing is live yet: `ragtide run` makes the first release")
        self._have_adapter(release)
        return release, Assistant.of(release, self.workspace, self.models, self.progress).ask(question)

    def _have_adapter(self, release: Release) -> None:
        if release.model.adapter is not None:
            self.registry.fetch_adapter(release, self.workspace.adapters / release.model.adapter)
        adapter_folder(self.workspace, release.model)
