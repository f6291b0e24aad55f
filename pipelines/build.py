"""Build of candidates: a new index version or a new adapter, neither of them live before the release."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from datetime import timedelta

from ragtide.pipelines.corpus import Corpus, KnowledgeBase, TrainingSet
from ragtide.pipelines.disk import MEGABYTE, folder_bytes, require_space
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import consume_approvals
from ragtide.pipelines.index.fingerprint import local_table_folder
from ragtide.pipelines.index.folder import DocumentFolder, IndexVersion
from ragtide.pipelines.index.maintenance import MaintenancePlan
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.adapters import adapter_folder, is_same_base, store_adapter
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_embedder, load_generator
from ragtide.pipelines.models.prompts import FORM
from ragtide.pipelines.params import ChunkParams, EmbedParams, Params
from ragtide.pipelines.ports import Embedder, Generator, Progress, Trainer, TrainingResult, TrainingSample
from ragtide.pipelines.records.base import atomic_directory, json_digest, make_folder
from ragtide.pipelines.records.data import IndexDelta, Snapshot
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, MaintenanceStep
from ragtide.pipelines.training.samples import (
    SAMPLES_VERSION,
    documents_in,
    estimate_training_tokens,
    training_samples,
)
from ragtide.pipelines.workspace import Workspace

# A row's vector is stored in the table, in the cache of vectors, and once more while files are merged.
INDEX_COPIES, VALUE_BYTES, ROW_TEXT_BYTES = 3, 4, 2000
# An adapter is stored under its digest, for DVC and in MLflow; its checkpoint holds the two moments of the optimizer.
ADAPTER_COPIES, FIRST_ADAPTER_BYTES = 6, 20 * MEGABYTE


def open_index(workspace: Workspace, embedder: Embedder) -> Index:
    """The project's index, with the embedder and chunker settings of params.yaml."""
    params = workspace.params
    return Index(workspace.index_uri, embedder, params.chunk, params.embed, params.index)


def open_built_index(workspace: Workspace, embedder: Embedder, built: BuiltIndex) -> Index:
    """The index with the settings under which a release built it, which may differ from those of params.yaml.

    So a release still answers queries during a rebuild for new settings, and can be rolled back to afterwards.
    """
    params = workspace.params
    current = open_index(workspace, embedder)
    if built.fingerprint == current.fingerprint:
        return current
    embed = EmbedParams.model_validate({**built.settings["embed"], "device": params.embed.device})
    chunk = ChunkParams.model_validate(built.settings["chunk"])
    tuned = (workspace.tuned_embedders / built.tuned_embedder.digest,) if built.tuned_embedder else ()
    return Index(workspace.index_uri, load_embedder(embed, *tuned), chunk, embed, params.index)


def build_index(
    workspace: Workspace, embedder: LoadedEmbedder, knowledge: KnowledgeBase, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """Refresh the index to hold the knowledge base, in one commit, and write artifacts/index.json for DVC."""
    index = open_index(workspace, embedder.embedder)
    built = index.refresh(knowledge.source, knowledge.snapshot.kb_id, progress, rebuild)
    return _record_index(workspace, built, embedder, knowledge.waiting, len(knowledge.quarantined))


def build_index_only(
    workspace: Workspace, embedder: LoadedEmbedder, snapshot: Snapshot, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """As `build_index`, but reads only documents that differ from the index; used by `ragtide stage index`."""
    index = open_index(workspace, embedder.embedder)
    folder = DocumentFolder(workspace, snapshot, IndexVersion(index, index.latest()))
    try:
        if folder.is_guarded:
            changed = folder.changed
            folder.compare_content(dict(zip(changed, folder.read(changed), strict=True)))
        built = index.refresh(folder, snapshot.kb_id, progress, rebuild)
    finally:
        folder.library.keep()
    consume_approvals(workspace, index.documents())
    return _record_index(workspace, built, embedder, folder.waiting, len(folder.library.quarantined))


def require_index_space(workspace: Workspace, delta: IndexDelta, dimensions: int) -> None:
    """Raise UserError where the disk lacks the space for the rows of a refresh, or of a rebuild."""
    rows = delta.chunks_after if delta.rebuild else delta.upserted
    if folder := local_table_folder(workspace.index_uri):
        needed = INDEX_COPIES * rows * (ROW_TEXT_BYTES + VALUE_BYTES * dimensions)
        require_space(folder.parent, needed, f"the build of {rows} rows of the index")


def _require_training_space(workspace: Workspace) -> None:
    """Raise UserError where the disk lacks the space for an adapter as large as the largest one so far."""
    made = [folder for folder in workspace.adapters.iterdir() if folder.is_dir()] if workspace.adapters.is_dir() else []
    largest = max(map(folder_bytes, made), default=FIRST_ADAPTER_BYTES)
    require_space(workspace.state, ADAPTER_COPIES * largest, "training")


def _record_index(
    workspace: Workspace, built: BuiltIndex, embedder: LoadedEmbedder, waiting: int, quarantined: int
) -> BuiltIndex:
    counts = {"waiting": waiting, "quarantined": quarantined}
    built = built.model_copy(update={**counts, "tuned_embedder": embedder.tuned})
    write_index_artifact(workspace, built)
    return built


def maintain_index(workspace: Workspace, embedder: Embedder, dry_run: bool = False) -> list[MaintenanceStep]:
    """Run table maintenance; each step records whether it was done and why. Empty if there is no index."""
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
    """Write artifacts/index.json, the output of the DVC stage `index`."""
    index.write(workspace.index_artifact)


def training_settings(params: Params, base: str) -> str:
    """A digest of everything that a training run depends on, except the examples and the pages."""
    samples = params.examples.model_dump(
        mode="json", include={"unanswerable_share", "unanswerable_reply", "replay_share"}
    )
    return json_digest(
        [base, FORM, SAMPLES_VERSION, params.finetune.model_dump(mode="json"), params.index.top_k, samples]
    )


def build_model(
    workspace: Workspace, models: Models, corpus: Corpus, retriever: Retriever, progress: Progress
) -> tuple[BuiltModel, TrainingResult]:
    """Fine-tune an adapter on the corpus's examples and write artifacts/adapter and artifacts/model.json for DVC.

    A killed run with the same data and settings resumes from its last checkpoint. Raises UserError if there are fewer
    examples than finetune.min_examples.
    """
    started = time.perf_counter()
    params, training, chunks = workspace.params, corpus.training, corpus.knowledge.chunks_by_document
    _require_examples(workspace, training)
    _require_training_space(workspace)
    samples = training_samples(training.with_replay, chunks, retriever, params)
    samples = _without_overlong(samples, models.trainer, params)
    unfinished = workspace.state / "adapter.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished.parent)
    trained = models.trainer.train(samples, unfinished, progress)
    planned = len(samples) * params.finetune.passes(len(samples))
    tokens = estimate_training_tokens(training.with_replay, corpus.knowledge.chunks, params)
    built = BuiltModel(
        base=models.generator.base,
        adapter=store_adapter(unfinished, workspace.adapters, models.generator.base),
        examples=corpus.snapshot.train_id,
        settings=training_settings(params, models.generator.base),
        trained_examples=trained.seen or planned,
        trained_tokens=round(tokens * min(1.0, (trained.seen or planned) / max(1, planned))),
        trained_on=tuple(sorted({example.digest for example in training.with_replay})),
        replayed=tuple(sorted({example.digest for example in training.replay.examples})),
        files={**training.replay.files, **corpus.snapshot.examples},
        documents=documents_in(samples, chunks),
        source_documents=tuple(sorted({example.doc for example in training.with_replay if example.doc})),
        final_loss=round(trained.final_loss, 6),
        stopped=trained.stopped,
        cut_short=trained.cut_short,
        seconds=round(time.perf_counter() - started, 3),
    )
    write_model_artifact(workspace, built)
    return built, trained


def _require_examples(workspace: Workspace, training: TrainingSet) -> None:
    needed = workspace.params.finetune.min_examples
    if len(training.examples) < needed:
        filtered = f" ({len(training.filtered)} lines are filtered: `ragtide examples`)" if training.filtered else ""
        count = f"{workspace.train} holds {len(training.examples)} examples{filtered}"
        raise UserError(f"{count} and finetune.min_examples is {needed}: add some")


def _without_overlong(samples: Sequence[TrainingSample], trainer: Trainer, params: Params) -> list[TrainingSample]:
    """The samples whose answer is not too long for the trainer.

    Raises UserError if there are others and examples.on_invalid is "refuse".
    """
    # Only the trainer can count tokens, and a user's own class may lack the method.
    find_overlong = getattr(trainer, "too_long", None)
    overlong = set(find_overlong(samples)) if find_overlong else set()
    if overlong and params.examples.on_invalid == "refuse":
        start = samples[min(overlong)].completion[:40]
        limit = f"finetune.max_tokens = {params.finetune.max_tokens} tokens"
        raise UserError(f"{len(overlong)} answers exceed {limit}, such as {start!r}…: shorten them, or raise the limit")
    return [sample for position, sample in enumerate(samples) if position not in overlong]


def base_model_only(models: Models) -> BuiltModel:
    """The record of the base model without an adapter."""
    return BuiltModel(base=models.generator.base, adapter=None, examples=None, settings=None)


def load_generator_for(workspace: Workspace, models: Models, model: BuiltModel) -> Generator:
    """The generator of a model's own base, which may differ from generate.model in params.yaml.

    So a release still answers until a retrain on the new base is live, and can be rolled back to afterwards. Raises
    UserError if the base is no longer available, since its adapter fits no other.
    """
    params, current = workspace.params.generate, models.generator
    if is_same_base(model.base, current.base):
        return current
    name, _, _ = model.base.rpartition("@")
    original = load_generator(params.model_copy(update={"model": name})) if name else current
    how = "restore that base, `ragtide rollback` to a release with another, or `ragtide run` to retrain on the new one"
    try:
        if is_same_base(model.base, original.base):
            return original
        reason = f"it now is {original.base}"
    except UserError as problem:
        reason = str(problem).partition(":")[0]
    raise UserError(f"the base model {model.base} of the release is not available ({reason}): {how}")


def write_model_artifact(workspace: Workspace, model: BuiltModel) -> None:
    """Write artifacts/adapter and artifacts/model.json, the outputs of the DVC stage `finetune`."""
    target = workspace.artifacts / "adapter"
    adapter = adapter_folder(workspace, model)
    with atomic_directory(target) as unfinished:
        if adapter is not None:
            shutil.copytree(adapter, unfinished, dirs_exist_ok=True)
    model.write(workspace.artifacts / "model.json")
