"""What belongs to one project? Its folder, models and registry, opened once and passed from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ragtide.pipelines.build import base_model_only, load_generator_for, open_built_index, open_index
from ragtide.pipelines.corpus import Corpus, IndexVersion, KnowledgeBase, read_corpus
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answer, Answerer, Assistant
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.judge import load_judge
from ragtide.pipelines.evaluation.questions import golden_wordings, read_golden
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.adapters import adapter_folder
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_index_embedder, load_models
from ragtide.pipelines.ports import Progress
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import BuiltEmbedder, BuiltIndex, BuiltModel, Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.training.examples import require_valid
from ragtide.pipelines.training.replay import ReplayExamples, replay_examples
from ragtide.pipelines.workspace import Workspace


@dataclass(frozen=True)
class Project:
    """Everything that a step needs besides its input."""

    workspace: Workspace
    models: Models
    registry: Registry
    progress: Progress
    _retrievers: dict[str, LoadedEmbedder] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path, progress: Progress) -> Project:
        """Open the project at `root`; no model is loaded before it is used."""
        workspace = Workspace.open(root)
        return cls(workspace, load_models(workspace.params), Registry(workspace), progress)

    @property
    def index(self) -> Index:
        """The table; how a release's rows are searched and compared depends on its `retriever` besides."""
        return open_index(self.workspace, self.models.embedder)

    def embedder_for(self, tuned: BuiltEmbedder | None) -> LoadedEmbedder:
        """The retriever that made an index, fetched where this machine does not have it, and opened once."""
        name = tuned.digest if tuned else ""
        if name not in self._retrievers:
            if tuned:
                self.registry.fetch_retriever(tuned, self.workspace.tuned_embedders / tuned.digest)
            self._retrievers[name] = load_index_embedder(self.workspace, self.models.embedder, tuned)
        return self._retrievers[name]

    def index_of(self, built: BuiltIndex) -> Index:
        """An index as it was built, under the settings of that time."""
        return open_built_index(self.workspace, self.embedder_for(built.tuned_embedder).embedder, built)

    def retriever(self, built: BuiltIndex, tag: str | None = None) -> Retriever:
        """A reader of an index as it was built, by its tag or its version."""
        return self.index_of(built).retriever(tag or built.version)

    def corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """What `snapshot` holds, as the index is to have it; with `keep` it is written down what cannot be read.

        Raises RefusalError for training lines that cannot be learnt from, where examples.on_invalid is "refuse".
        """
        corpus = self.inspect_corpus(snapshot, keep)
        require_valid(corpus.training.filtered, self.workspace.params)
        return corpus

    def inspect_corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """As `corpus`, whatever is wrong with the training lines."""
        live = self.registry.champion()
        # Before the first release, what an index that was built alone holds is not to vanish unasked either.
        version = live.index_tag if live else self.index.latest()
        golden = golden_wordings(self.workspace, snapshot.questions)
        corpus = read_corpus(self.workspace, snapshot, IndexVersion(self.index, version), keep, golden)
        older = (
            replay_examples(self.workspace, live.model, corpus.current_examples, golden) if live else ReplayExamples()
        )
        return replace(corpus, training=replace(corpus.training, replay=older))

    def evaluator(self, knowledge: KnowledgeBase) -> Evaluator:
        """Asks the golden questions that the knowledge base can answer."""
        golden = read_golden(self.workspace.golden, knowledge.snapshot.questions, knowledge.texts)
        if not golden.questions:
            what = f"all {len(golden.stale)} golden questions are stale: their documents hold none of their answers"
            raise UserError(f"{self.workspace.golden}: {what}; mend `answers` and `docs`")
        judge = load_judge(self.workspace.params.score)
        answerer = Answerer(self.workspace, self.models, self.progress, judge)
        return Evaluator(knowledge, golden, answerer, self.workspace.params)

    def system_under_test(self, release: Release | None) -> SystemUnderTest:
        """A release, or before the first the base model alone, to be measured."""
        model = self.current_model(release)
        if release is None:
            return SystemUnderTest(reader=None, model=model)
        if model == release.model:
            self.adapter(release)
        return SystemUnderTest(reader=self.retriever(release.index, release.index_tag), model=model)

    def current_model(self, release: Release | None) -> BuiltModel:
        """The model that goes on where nothing is trained: a release's, or today's base alone.

        The latter before the first release, and where a release's own base is gone: a turn must find a way on.
        """
        if release is None:
            return base_model_only(self.models)
        try:
            load_generator_for(self.workspace, self.models, release.model)
        except UserError:
            return base_model_only(self.models)
        return release.model

    def check_servable(self, release: Release) -> None:
        """Raise RefusalError where a release's index, retriever, adapter or base model is gone; loads no model."""
        if not self.index.has_tag(release.index_tag):
            raise UserError(f"the index has no tag {release.index_tag} any more: release {release.id} is not whole")
        self.embedder_for(release.index.tuned_embedder)
        self.adapter(release)
        load_generator_for(self.workspace, self.models, release.model)

    def assistant(self) -> Assistant:
        """The live release, whole, to be asked. Raises RefusalError where nothing is live."""
        release = self.registry.live()
        self.embedder_for(release.index.tuned_embedder)
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
