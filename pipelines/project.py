"""Composition root: wires workspace, models, index and registry of one project together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ragtide.pipelines.build import base_model_only, load_generator_for, open_built_index, open_index
from ragtide.pipelines.corpus import Corpus, KnowledgeBase, read_corpus
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answer, Answerer, AnsweringWork, Assistant
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.judge import load_judge
from ragtide.pipelines.evaluation.questions import golden_wordings, read_golden
from ragtide.pipelines.index.folder import DocumentFolder, IndexVersion
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
    """One open project: everything that a step needs besides its input."""

    workspace: Workspace
    models: Models
    registry: Registry
    progress: Progress
    answering: AnsweringWork = field(default_factory=AnsweringWork, compare=False)
    _embedders: dict[str, LoadedEmbedder] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path, progress: Progress) -> Project:
        """Open the project at `root`; models are loaded at their first use."""
        workspace = Workspace.open(root)
        return cls(workspace, load_models(workspace.params), Registry(workspace), progress)

    @property
    def index(self) -> Index:
        """The index with the base embedder; `index_of` opens one as a release built it, with its own embedder."""
        return open_index(self.workspace, self.models.embedder)

    def embedder_for(self, tuned: BuiltEmbedder | None) -> LoadedEmbedder:
        """Return a fine-tuned embedder (None: the base one), downloaded where it is missing here, and loaded once."""
        name = tuned.digest if tuned else ""
        if name not in self._embedders:
            if tuned:
                self.registry.fetch_embedder(tuned, self.workspace.tuned_embedders / tuned.digest)
            self._embedders[name] = load_index_embedder(self.workspace, self.models.embedder, tuned)
        return self._embedders[name]

    def index_of(self, built: BuiltIndex) -> Index:
        """Open an index under the embedder and settings that it was built with."""
        return open_built_index(self.workspace, self.embedder_for(built.tuned_embedder).embedder, built)

    def retriever(self, built: BuiltIndex, tag: str | None = None) -> Retriever:
        """Open a retriever on a built index, at its tag or its version."""
        return self.index_of(built).retriever(tag or built.version)

    def corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """Read the documents and training examples of `snapshot`; `keep` also records what is quarantined.

        Raises UserError for invalid training lines where examples.on_invalid is "refuse".
        """
        corpus = self.inspect_corpus(snapshot, keep)
        require_valid(corpus.training.filtered, self.workspace.params)
        return corpus

    def inspect_corpus(self, snapshot: Snapshot, keep: bool = False) -> Corpus:
        """Read the corpus as `corpus` does, but accept invalid training lines."""
        live = self.registry.champion()
        golden = golden_wordings(self.workspace, snapshot.questions)
        corpus = read_corpus(self.workspace, snapshot, self._version_before(live), keep, golden)
        replay = (
            replay_examples(self.workspace, live.model, corpus.current_examples, golden) if live else ReplayExamples()
        )
        return replace(corpus, training=replace(corpus.training, replay=replay))

    def document_paths(self, snapshot: Snapshot) -> DocumentPaths:
        """Where the documents of the live release are in `snapshot`; reads only documents that may have moved."""
        return DocumentFolder(self.workspace, snapshot, self._version_before(self.registry.champion())).paths

    def _version_before(self, live: Release | None) -> IndexVersion:
        """The index that documents are compared with."""
        # Before the first release, documents of an index that was built alone must not be deleted unapproved either.
        version = live.index_tag if live else self.index.latest()
        return IndexVersion(self.index, version, live.former_paths if live else {})

    def evaluator(self, knowledge: KnowledgeBase) -> Evaluator:
        """Return an evaluator on the golden questions that the knowledge base can answer. Raises UserError for none."""
        golden = read_golden(self.workspace.golden, knowledge.snapshot.questions, knowledge.texts, knowledge.paths)
        if not golden.questions:
            raise UserError(
                f"{self.workspace.golden}: all {len(golden.stale)} golden questions are stale, since their documents "
                "state none of their answers: correct `answers` and `docs`"
            )
        judge = load_judge(self.workspace.params.score)
        answerer = Answerer(self.workspace, self.models, self.progress, judge, self.answering)
        return Evaluator(knowledge, golden, answerer, self.workspace.params)

    def system_under_test(self, release: Release | None) -> SystemUnderTest:
        """Return a release for evaluation; before the first one, the base model alone."""
        model = self.current_model(release)
        if release is None:
            return SystemUnderTest(reader=None, model=model)
        if model == release.model:
            self.adapter(release)
        return SystemUnderTest(reader=self.retriever(release.index, release.index_tag), model=model)

    def current_model(self, release: Release | None) -> BuiltModel:
        """Return the model that a cycle without training uses: the release's, or today's base model alone.

        The latter before the first release, and where the release's own base model is missing: the cycle must not fail.
        """
        if release is None:
            return base_model_only(self.models)
        try:
            load_generator_for(self.workspace, self.models, release.model)
        except UserError:
            return base_model_only(self.models)
        return release.model

    def check_servable(self, release: Release) -> None:
        """Raise UserError where a release's index, embedder, adapter or base model is missing; loads no weights."""
        if not self.index.has_tag(release.index_tag):
            raise UserError(
                f"release {release.id} cannot be served: the index has no tag {release.index_tag}; "
                "`ragtide verify --repair` restores it where its rows still exist"
            )
        self.embedder_for(release.index.tuned_embedder)
        self.adapter(release)
        load_generator_for(self.workspace, self.models, release.model)

    def assistant(self) -> Assistant:
        """Open the live release for answering. Raises UserError where no release is live."""
        release = self.registry.live()
        self.embedder_for(release.index.tuned_embedder)
        self.adapter(release)
        return Assistant.of(release, self.workspace, self.models, self.progress)

    def ask(self, question: str) -> tuple[Release, Answer]:
        """Answer a question from the live release. Raises UserError where no release is live."""
        assistant = self.assistant()
        return assistant.release, assistant.ask(question)

    def adapter(self, release: Release) -> Path | None:
        """Return the folder of a release's adapter, downloaded where it is missing; None for a base model alone."""
        if release.model.adapter is not None:
            self.registry.fetch_adapter(release, self.workspace.adapters / release.model.adapter)
        return adapter_folder(self.workspace, release.model)
