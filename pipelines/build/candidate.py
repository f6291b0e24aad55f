"""What is built before it is proven? A new version of the index, or a new adapter; neither is live yet."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from pipelines.build.corpus import Corpus
from pipelines.build.examples import lessons
from pipelines.build.index import Index, Reader
from pipelines.build.models import Models
from pipelines.build.prompts import FORM
from pipelines.errors import RefusalError
from pipelines.params import Params
from pipelines.ports import Progress
from pipelines.records import BuiltIndex, BuiltModel, digest_of
from pipelines.workspace import Workspace


def open_index(workspace: Workspace, models: Models) -> Index:
    """The project's index, under its embedder and chunker settings."""
    return Index(workspace.index_uri, models.embedder, workspace.params.chunk)


def build_index(workspace: Workspace, models: Models, corpus: Corpus, progress: Progress) -> BuiltIndex:
    """Bring the index up to the corpus, in one commit, and write artifacts/index.json for DVC."""
    built = open_index(workspace, models).refresh(corpus.chunks, corpus.snapshot.id, progress)
    export_index(workspace, built)
    return built


def export_index(workspace: Workspace, index: BuiltIndex) -> None:
    """Write down which version of the index is meant, where the DVC stage expects it."""
    index.write(workspace.artifacts / "index.json")


def training_settings(params: Params, base: str) -> str:
    """A digest of everything but the examples that a training run depends on."""
    return digest_of([base, FORM, params.finetune.model_dump(mode="json"), params.index.top_k])


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


def _keep(unfinished: Path, adapters: Path) -> str:
    """Move a new adapter to the place that its content names; an equal one that is there already stays."""
    content = hashlib.sha256()
    for path in sorted(unfinished.rglob("*")):
        if path.is_file():
            content.update(path.relative_to(unfinished).as_posix().encode() + b"\0" + path.read_bytes())
    digest = content.hexdigest()[:12]
    target = adapters / digest
    adapters.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(unfinished)
    else:
        unfinished.replace(target)
    return digest
