"""What belongs to one project? Its folder, models and registry, opened once and passed from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.build.adapters import adapter_folder
from pipelines.build.candidate import generator_of, index_of, open_index, untrained
from pipelines.build.corpus import Corpus, Older, Rows, read_corpus
from pipelines.build.examples import refuse_flaws
from pipelines.build.index import Index
from pipelines.build.models import Models, Retriever, load_models, retriever_of
from pipelines.build.older import older_examples
from pipelines.build.pairs import Pair, pairs_of
from pipelines.build.search import Reader
from pipelines.errors import RefusalError
from pipelines.ports import Progress
from pipelines.prove.answer import Answer, Answerer, Assistant
from pipelines.prove.attribution import Examiner, Subject
from pipelines.prove.questions import read_golden, wordings
from pipelines.publish.judge import load_judge
from pipelines.publish.registry import Registry
from pipelines.records import BuiltIndex, BuiltModel, BuiltRetriever, Release, Snapshot
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Project:
    """Everything that a step needs besides its input."""

    workspace: Workspace
    models: Models
    registry: Registry
    progress: Progress
    _retrievers: dict[str, Retriever] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path, progress: Progress) -> Project:
        """Open the project at `root`; no model is loaded before it is used."""
        workspace = Workspace.open(root)
        return cls(workspace, load_models(workspace.params), Registry(workspace), progress)

    @property
    def index(self) -> Index:
        """The table; how a release's rows are searched and compared depends on its `retriever` besides."""
        return open_index(self.workspace, self.models.embedder)

    def retriever(self, tuned: BuiltRetriever | None) -> Retriever:
        """The retriever that made an index, fetched where this machine does not have it, and opened once."""
        name = tuned.digest if tuned else ""
        if name not in self._retrievers:
            if tuned:
                self.registry.fetch_retriever(tuned, self.workspace.retrievers / tuned.digest)
            self._retrievers[name] = retriever_of(self.workspace, self.models.embedder, tuned)
        return self._retrievers[name]

    def index_of(self, built: BuiltIndex) -> Index:
        """An index as it was built, under the settings of that time."""
        return index_of(self.workspace, self.retriever(built.retriever).embedder, built)

    def reader(self, built: BuiltIndex, tag: str | None = None) -> Reader:
        """A reader of an index as it was built, by its tag or its version."""
        return self.index_of(built).reader(tag or built.version)

    def corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """What `snapshot` holds, as the index is to have it; with `keep` it is written down what cannot be read.

        Raises RefusalError for training lines that cannot be learnt from, where examples.on_bad is "refuse".
        """
        corpus = self.look_into(snapshot, keep)
        refuse_flaws(corpus.left_out, self.workspace.params)
        return corpus

    def look_into(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """As `corpus`, whatever is wrong with the training lines."""
        live = self.registry.champion()
        # Before the first release, what an index that was built alone holds is not to vanish unasked either.
        version = live.index_tag if live else self.index.latest()
        golden = wordings(self.workspace, snapshot.questions)
        corpus = read_corpus(self.workspace, snapshot, Rows(self.index, version), keep, golden)
        older = older_examples(self.workspace, live.model, corpus, golden) if live else Older()
        return replace(corpus, older=older)

    def pairs(self, corpus: Corpus) -> list[Pair]:
        """What the retriever can learn from; no golden question is among it."""
        golden = wordings(self.workspace, corpus.snapshot.questions)
        return pairs_of(corpus.chunks_by_document, corpus.examples, golden)

    def examiner(self, corpus: Corpus) -> Examiner:
        """Asks the golden questions that the corpus can answer."""
        golden = read_golden(self.workspace.golden, corpus.snapshot.questions, corpus.texts)
        if not golden.questions:
            what = f"all {len(golden.stale)} golden questions are stale: their documents hold none of their answers"
            raise RefusalError(f"{self.workspace.golden}: {what}; mend `answers` and `docs`")
        judge = load_judge(self.workspace.params.score)
        answerer = Answerer(self.workspace, self.models, self.progress, judge)
        return Examiner(corpus, golden, answerer, self.workspace.params)

    def subject(self, release: Release | None) -> Subject:
        """A release, or before the first the base model alone, to be measured."""
        model = self.kept(release)
        if release is None:
            return Subject(reader=None, model=model)
        if model == release.model:
            self.adapter(release)
        return Subject(reader=self.reader(release.index, release.index_tag), model=model)

    def kept(self, release: Release | None) -> BuiltModel:
        """The model that goes on where nothing is trained: a release's, or today's base alone.

        The latter before the first release, and where a release's own base is gone: a turn must find a way on.
        """
        if release is None:
            return untrained(self.models)
        try:
            generator_of(self.workspace, self.models, release.model)
        except RefusalError:
            return untrained(self.models)
        return release.model

    def serves(self, release: Release) -> None:
        """Raise RefusalError where a release's index, retriever, adapter or base model is gone; loads no model."""
        if not self.index.has_tag(release.index_tag):
            raise RefusalError(f"the index has no tag {release.index_tag} any more: release {release.id} is not whole")
        self.retriever(release.index.retriever)
        self.adapter(release)
        generator_of(self.workspace, self.models, release.model)

    def assistant(self) -> Assistant:
        """The live release, whole, to be asked. Raises RefusalError where nothing is live."""
        release = self.registry.live()
        self.retriever(release.index.retriever)
        self.adapter(release)
        return Assistant.of(release, self.workspace, self.models, self.progress)

    def ask(self, question: str) -> tuple[Release, Answer]:
        """Answer from the live release. Raises RefusalError where nothing is live."""
        assistant = self.assistant()
        return assistant.release, assistant.ask(question)

    def adapter(self, release: Release) -> Path | None:
        """The folder of a release's adapter, fetched where this machine does not have it; None for the base alone."""
        if release.model.adapter is not None:
            self.registry.fetch_adapter(release, self.workspace.adapters / release.model.adapter)
        return adapter_folder(self.workspace, release.model)
