"""What is built before it is proven? A new version of the index, or a new adapter; neither is live yet."""

from __future__ import annotations

import hashlib
import shutil
import time
from datetime import timedelta
from pathlib import Path

from pipelines.build.corpus import Corpus, Folder
from pipelines.build.fingerprint import local_table
from pipelines.build.index import Index
from pipelines.build.lessons import LESSONS, lessons
from pipelines.build.models import Models, load_embedder
from pipelines.build.prompts import FORM
from pipelines.build.search import Reader
from pipelines.build.upkeep import UpkeepPlan
from pipelines.errors import RefusalError
from pipelines.observe.guard import use_up
from pipelines.params import ChunkParams, EmbedParams, Params
from pipelines.ports import Embedder, Progress
from pipelines.records import BuiltIndex, BuiltModel, Snapshot, Upkeep, digest_of
from pipelines.workspace import Workspace


def open_index(workspace: Workspace, embedder: Embedder) -> Index:
    """The project's index, under the embedder and chunker settings of params.yaml."""
    params = workspace.params
    return Index(workspace.index_uri, embedder, params.chunk, params.embed, params.index)


def index_of(workspace: Workspace, embedder: Embedder, built: BuiltIndex) -> Index:
    """The index as a release built it: under its own settings, which may be others than those of params.yaml today.

    So a release goes on answering while a rebuild for new settings is made, and one can go back to it afterwards.
    """
    params = workspace.params
    today = open_index(workspace, embedder)
    if not built.settings or built.fingerprint == today.fingerprint:
        return today
    embed = EmbedParams.model_validate({**built.settings["embed"], "device": params.embed.device})
    chunk = ChunkParams.model_validate(built.settings["chunk"])
    return Index(workspace.index_uri, load_embedder(embed), chunk, embed, params.index)


def build_index(
    workspace: Workspace, models: Models, corpus: Corpus, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """Bring the index up to the corpus, in one commit, and write artifacts/index.json for DVC."""
    index = open_index(workspace, models.embedder)
    built = index.refresh(corpus.source, corpus.snapshot.kb_id, progress, rebuild)
    built = built.model_copy(update={"waiting": corpus.waiting, "set_aside": len(corpus.set_aside)})
    export_index(workspace, built)
    return built


def build_index_alone(
    workspace: Workspace, embedder: Embedder, snapshot: Snapshot, progress: Progress, rebuild: bool = False
) -> BuiltIndex:
    """As `build_index`, but reading only the documents that differ from the rows: for the index without the loop."""
    index = open_index(workspace, embedder)
    folder = Folder(workspace, snapshot, index.documents())
    try:
        built = index.refresh(folder, snapshot.kb_id, progress, rebuild)
    finally:
        folder.library.keep()
    use_up(workspace, index.documents())
    built = built.model_copy(update={"waiting": folder.waiting, "set_aside": len(folder.library.set_aside)})
    export_index(workspace, built)
    return built


def maintain_index(workspace: Workspace, embedder: Embedder, dry_run: bool = False) -> list[Upkeep]:
    """Keep the index's table small and fast; each step says why it was done or not. Empty without an index."""
    params, table = workspace.params.maintain, local_table(workspace.index_uri)
    plan = UpkeepPlan(
        folder=table.parent if table else None,
        keep=timedelta(days=params.keep_days),
        max_fragments=params.max_fragments,
        max_deleted_share=params.max_deleted_share,
        dry_run=dry_run,
    )
    return open_index(workspace, embedder).maintain(plan)


def export_index(workspace: Workspace, index: BuiltIndex) -> None:
    """Write down which version of the index is meant, where the DVC stage expects it."""
    index.write(workspace.artifacts / "index.json")


def training_settings(params: Params, base: str) -> str:
    """A digest of everything but the examples that a training run depends on."""
    return digest_of([base, FORM, LESSONS, params.finetune.model_dump(mode="json"), params.index.top_k])


def build_model(
    workspace: Workspace, models: Models, corpus: Corpus, reader: Reader, progress: Progress
) -> tuple[BuiltModel, tuple[float, ...]]:
    """Fine-tune an adapter on the corpus's examples and write artifacts/adapter and artifacts/model.json for DVC.

    Returns the model and the training loss of each step.
    Raises RefusalError where there are fewer examples than finetune.min_examples.
    """
    started = time.perf_counter()
    params = workspace.params
    if len(corpus.examples) < params.finetune.min_examples:
        needed = f"finetune.min_examples is {params.finetune.min_examples}"
        raise RefusalError(f"{workspace.train} holds {len(corpus.examples)} examples and {needed}: add some")
    taught = lessons(corpus.examples, corpus.chunks_by_document, reader, params.index.top_k, params.finetune.seed)
    unfinished = workspace.state / "adapter.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    trained = models.trainer.train(taught, unfinished, progress)
    built = BuiltModel(
        base=models.generator.base,
        adapter=_keep(unfinished, workspace.adapters),
        examples=corpus.snapshot.train_id,
        settings=training_settings(params, models.generator.base),
        trained_examples=len(taught) * params.finetune.passes(len(taught)),
        taught=tuple(sorted({example.digest for example in corpus.examples})),
        final_loss=round(trained.final_loss, 6),
        seconds=round(time.perf_counter() - started, 3),
    )
    export_model(workspace, built)
    return built, trained.losses


def untrained(models: Models) -> BuiltModel:
    """The base model alone."""
    return BuiltModel(base=models.generator.base, adapter=None, examples=None, settings=None)


def export_model(workspace: Workspace, model: BuiltModel) -> None:
    """Lay the model into artifacts/, where the DVC stage expects it."""
    target = workspace.artifacts / "adapter"
    adapter = adapter_folder(workspace, model)
    shutil.rmtree(target, ignore_errors=True)
    if adapter is None:
        target.mkdir(parents=True)
    else:
        shutil.copytree(adapter, target)
    model.write(workspace.artifacts / "model.json")


def adapter_folder(workspace: Workspace, model: BuiltModel) -> Path | None:
    """Where a model's adapter lies; None for the base model alone. Raises RefusalError where it is missing."""
    if model.adapter is None:
        return None
    folder = workspace.adapters / model.adapter
    if not folder.is_dir():
        raise RefusalError(f"{folder} is missing: `ragtide rollback` to a release whose adapter is there, or retrain")
    return folder


def adapter_digest(folder: Path) -> str:
    """Twelve hex digits of the SHA-256 over an adapter's files: its name."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:12]


def _keep(unfinished: Path, adapters: Path) -> str:
    """Move a new adapter to the place that its content names; an equal one that is there already stays."""
    digest = adapter_digest(unfinished)
    target = adapters / digest
    adapters.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(unfinished)
    else:
        unfinished.replace(target)
    return digest
