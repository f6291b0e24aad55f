"""What is built before it is proven? A new version of the index, or a new adapter; neither is live yet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from datetime import timedelta

from ragtide.pipelines.corpus import Corpus, DocumentFolder, KnowledgeBase
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import consume_approvals
from ragtide.pipelines.index.fingerprint import local_table_folder
from ragtide.pipelines.index.maintenance import MaintenancePlan
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.adapters import adapter_folder, is_same_base, store_adapter
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_embedder, load_generator
from ragtide.pipelines.models.prompts import FORM
from ragtide.pipelines.params import ChunkParams, EmbedParams, Params
from ragtide.pipelines.ports import Embedder, Generator, Progress, Trainer, TrainingResult, TrainingSample
from ragtide.pipelines.records.base import atomic_directory, json_digest
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, MaintenanceStep
from ragtide.pipelines.training.samples import SAMPLES_VERSION, documents_in, training_samples
from ragtide.pipelines.workspace import Workspace


def open_index(workspace: Workspace, embedder: Embedder) -> Index:
    """The project's index, under the embedder and chunker settings of params.yaml."""
    params = workspace.params
    return Index(workspace.index_uri, embedder, params.chunk, params.embed, params.index)


def open_built_index(workspace: Workspace, embedder: Embedder, built: BuiltIndex) -> Index:
    """The index as a release built it: under its own settings, which may be others than those of params.yaml today.

    So a release goes on answering while a rebuild for new settings is made, and one can go back to it afterwards.
    """
    params = workspace.params
    today = open_index(workspace, embedder)
    if not built.settings or built.fingerprint == today.fingerprint:
        return today
    embed = EmbedParams.model_validate({**built.settings["embed"], "device": params.embed.device})
    chunk = ChunkParams.model_validate(built.settings["chunk"])
    tuned = (workspace.tuned_embedders / built.tuned_embedder.digest,) if built.tuned_embedder else ()
    return Index(workspace.index_uri, load_embedder(embed, *tuned), chunk, embed, params.index)


def build_index(
    workspace: Workspace, retriever: LoadedEmbedder, knowledge: KnowledgeBase, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """Refresh the index to the knowledge base, in one commit, and write artifacts/index.json for DVC."""
    index = open_index(workspace, retriever.embedder)
    built = index.refresh(knowledge.source, knowledge.snapshot.kb_id, progress, rebuild)
    left = {"waiting": knowledge.waiting, "quarantined": len(knowledge.quarantined)}
    built = built.model_copy(update={**left, "tuned_embedder": retriever.tuned})
    write_index_artifact(workspace, built)
    return built


def build_index_only(
    workspace: Workspace, retriever: LoadedEmbedder, snapshot: Snapshot, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """As `build_index`, but reading only the documents that differ from the rows: for the index without the loop."""
    index = open_index(workspace, retriever.embedder)
    folder = DocumentFolder(workspace, snapshot, index.documents())
    try:
        built = index.refresh(folder, snapshot.kb_id, progress, rebuild)
    finally:
        folder.library.keep()
    consume_approvals(workspace, index.documents())
    left = {"waiting": folder.waiting, "quarantined": len(folder.library.quarantined)}
    built = built.model_copy(update={**left, "tuned_embedder": retriever.tuned})
    write_index_artifact(workspace, built)
    return built


def maintain_index(workspace: Workspace, embedder: Embedder, dry_run: bool = False) -> list[MaintenanceStep]:
    """Keep the index's table small and fast; each step says why it was done or not. Empty without an index."""
    params, table = workspace.params.maintenance, local_table_folder(workspace.index_uri)
    plan = MaintenancePlan(
        folder=table.parent if table else None,
        keep=timedelta(days=params.keep_days),
        max_fragments=params.max_fragments,
        max_deleted_share=params.max_deleted_share,
        dry_run=dry_run,
    )
    return open_index(workspace, embedder).maintain(plan)


def write_index_artifact(workspace: Workspace, index: BuiltIndex) -> None:
    """Write down which version of the index is meant, where the DVC stage expects it."""
    index.write(workspace.artifacts / "index.json")


def training_settings(params: Params, base: str) -> str:
    """A digest of everything but the examples that a training run depends on."""
    taught = params.examples.model_dump(
        mode="json", include={"unanswerable_share", "unanswerable_reply", "replay_share"}
    )
    return json_digest(
        [base, FORM, SAMPLES_VERSION, params.finetune.model_dump(mode="json"), params.index.top_k, taught]
    )


def build_model(
    workspace: Workspace, models: Models, corpus: Corpus, reader: Retriever, progress: Progress
) -> tuple[BuiltModel, TrainingResult]:
    """Fine-tune an adapter on the corpus's examples and write artifacts/adapter and artifacts/model.json for DVC.

    A run that was killed goes on where it was last kept, if everything is as it was. Returns the model, and what its
    training was. Raises RefusalError where there are fewer examples than finetune.min_examples.
    """
    started = time.perf_counter()
    params, training, chunks = workspace.params, corpus.training, corpus.knowledge.chunks_by_document
    if len(training.examples) < params.finetune.min_examples:
        needed = f"finetune.min_examples is {params.finetune.min_examples}"
        left = f" ({len(training.filtered)} lines are left out: `ragtide examples`)" if training.filtered else ""
        raise UserError(f"{workspace.train} holds {len(training.examples)} examples{left} and {needed}: add some")
    taught = _that_fit(training_samples(training.with_replay, chunks, reader, params), models.trainer, params)
    unfinished = workspace.state / "adapter.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    trained = models.trainer.train(taught, unfinished, progress)
    built = BuiltModel(
        base=models.generator.base,
        adapter=store_adapter(unfinished, workspace.adapters, models.generator.base),
        examples=corpus.snapshot.train_id,
        settings=training_settings(params, models.generator.base),
        trained_examples=trained.seen or len(taught) * params.finetune.passes(len(taught)),
        trained_on=tuple(sorted({example.digest for example in training.with_replay})),
        replayed=tuple(sorted({example.digest for example in training.replay.examples})),
        files={**training.replay.files, **corpus.snapshot.examples},
        documents=documents_in(taught, chunks),
        source_documents=tuple(sorted({example.doc for example in training.with_replay if example.doc})),
        final_loss=round(trained.final_loss, 6),
        stopped=trained.stopped,
        seconds=round(time.perf_counter() - started, 3),
    )
    write_model_artifact(workspace, built)
    return built, trained


def _that_fit(lessons: Sequence[TrainingSample], trainer: Trainer, params: Params) -> list[TrainingSample]:
    """Lessons that the trainer can take. Raises RefusalError where it cannot, and examples.on_invalid is "refuse"."""
    # Only the trainer counts tokens; a user's own may not tell.
    long = set(tell(lessons)) if (tell := getattr(trainer, "too_long", None)) else set()
    if long and params.examples.on_invalid == "refuse":
        start = lessons[min(long)].completion[:40]
        what = f"{len(long)} examples have an answer of over finetune.max_tokens = {params.finetune.max_tokens} tokens"
        raise UserError(f"{what}, such as {start!r}…: shorten them, or raise it")
    return [lesson for at, lesson in enumerate(lessons) if at not in long]


def base_model_only(models: Models) -> BuiltModel:
    """The base model alone."""
    return BuiltModel(base=models.generator.base, adapter=None, examples=None, settings=None)


def load_generator_for(workspace: Workspace, models: Models, model: BuiltModel) -> Generator:
    """The generator of a model's own base, which may be another than that of params.yaml today.

    So a release goes on answering until a retrain has moved to a new base, and one can go back to it afterwards.
    Raises RefusalError where its base is not to be had any more: its adapter fits no other.
    """
    params, today = workspace.params.generate, models.generator
    if is_same_base(model.base, today.base):
        return today
    name, _, _ = model.base.rpartition("@")
    before = load_generator(params.model_copy(update={"model": name})) if name else today
    how = "put it back, `ragtide rollback` to a release of another, or `ragtide run`, which starts from today's base"
    try:
        if is_same_base(model.base, before.base):
            return before
        there = f"what is there now is {before.base}"
    except UserError as problem:
        there = str(problem).partition(":")[0]
    raise UserError(f"the release's model was made from {model.base}, and {there}: {how}")


def write_model_artifact(workspace: Workspace, model: BuiltModel) -> None:
    """Lay the model into artifacts/, where the DVC stage expects it."""
    target = workspace.artifacts / "adapter"
    adapter = adapter_folder(workspace, model)
    with atomic_directory(target) as unfinished:
        if adapter is not None:
            shutil.copytree(adapter, unfinished, dirs_exist_ok=True)
    model.write(workspace.artifacts / "model.json")
