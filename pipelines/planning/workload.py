"""Workload of each action, from the live release and the corpus: what the cost forecast is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from ragtide.pipelines.build import open_index
from ragtide.pipelines.corpus import Corpus, KnowledgeBase
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evaluation.regression import regression_suites
from ragtide.pipelines.evidence.live_index import LiveIndexView
from ragtide.pipelines.models.load import LoadedEmbedder, is_plugin
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import IndexDelta
from ragtide.pipelines.records.evidence import Workload
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.training.embedder_tuning import TuningData, tuning_data
from ragtide.pipelines.training.pairs import build_pairs
from ragtide.pipelines.training.samples import draw_unanswerable, estimate_training_tokens


@dataclass(frozen=True)
class ComparedIndex:
    """What a refresh would change in the index, and the view of the live one; None before the first release."""

    delta: IndexDelta
    view: LiveIndexView | None


def live_embedder(project: Project, release: Release | None) -> LoadedEmbedder:
    """The embedder that a refresh would use: the tuned one of the live release, or that of params.yaml."""
    return project.embedder_for(release.index.tuned_embedder if release else None)


def view_live_index(
    project: Project, knowledge: KnowledgeBase, golden: GoldenSet, release: Release | None
) -> ComparedIndex:
    """Compare the knowledge base with the live index; vectors are sampled only where new ones are comparable."""
    index = open_index(project.workspace, live_embedder(project, release).embedder)
    delta = index.delta(knowledge.chunks, release.index.version if release else None, knowledge.paths.moves)
    if release is None:
        return ComparedIndex(delta, None)
    limit = 0 if delta.rebuild else project.workspace.params.evidence.old_chunks
    live = project.index_of(release.index)
    return ComparedIndex(delta, LiveIndexView.of(live, release.index_tag, knowledge.chunks, golden.questions, limit))


def tuning_data_of(project: Project, corpus: Corpus, release: Release | None) -> TuningData | None:
    """What the embedder could be tuned on; None for an embedder of the user's own, and before there is an index."""
    params = project.workspace.params
    if release is None or is_plugin(params.embed.model):
        return None
    training = corpus.training
    pairs = build_pairs(corpus.knowledge.chunks_by_document, training.examples, training.golden)
    return tuning_data(params, pairs, live_embedder(project, release).tuned)


def forecast_workload(
    project: Project,
    corpus: Corpus,
    golden: GoldenSet,
    index: ComparedIndex,
    tuning: TuningData | None,
    asked_after_refresh: int | None,
) -> Workload:
    """How much each action would have to do; of the golden questions a refresh asks `asked_after_refresh`."""
    params, examples = project.workspace.params, corpus.training.with_replay
    trained = len(examples) + len(draw_unanswerable(examples, params))
    suites = regression_suites(project.workspace, corpus.knowledge, golden) if index.view else ()
    return Workload(
        chunks=index.delta.to_embed,
        all_chunks=index.delta.chunks_after,
        pairs=params.embedder_tuning.trained_pairs(tuning.pairs) if tuning else 0,
        examples=trained * params.finetune.passes(trained),
        training_tokens=estimate_training_tokens(examples, corpus.knowledge.chunks, params),
        training_limit_seconds=60 * params.finetune.max_minutes if params.finetune.max_minutes else None,
        questions=len(golden.questions),
        asked_after_refresh=asked_after_refresh,
        suite_questions_asked=sum(len(suite.questions) for suite in suites),
    )
