"""Which models does a project use? The three ports filled as params.yaml says, from here or from code of the user."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.params import Block, EmbedParams, GenerateParams, Params
from ragtide.pipelines.ports import Embedder, Generator, Trainer
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.workspace import Workspace

_PLUGIN = re.compile(r"^[A-Za-z_][\w.]*:[A-Z]\w*$")


@dataclass(frozen=True)
class Models:
    """The embedder, the generator and the trainer of one project; nothing is loaded before it is used."""

    embedder: Embedder
    generator: Generator
    trainer: Trainer


@dataclass(frozen=True)
class LoadedEmbedder:
    """An embedder, and how it was tuned; None where it is the one that params.yaml names."""

    embedder: Embedder
    tuned: BuiltEmbedder | None = None


def load_models(params: Params) -> Models:
    """Fill the ports. `module:Class` is imported and called with the block of params.yaml that names it."""
    return Models(
        embedder=load_embedder(params.embed), generator=load_generator(params.generate), trainer=_trainer(params)
    )


def is_plugin(name: str) -> bool:
    """Whether a model's name in params.yaml means code of the user's own."""
    return bool(_PLUGIN.match(name))


def load_embedder(params: EmbedParams, tuned: Path | None = None) -> Embedder:
    """The embedder that `params` name; also that of an older release, whose settings may be others than today's.

    `tuned` is the folder of a retriever that was tuned from it. Raises RefusalError where it was not.
    """
    if is_plugin(params.model):
        if tuned is not None:
            raise UserError(f"embed.model = {params.model!r} is code of your own: there is nothing to tune")
        embedder: Embedder = _plugin("embed.model", params.model, params)
        return embedder
    from ragtide.pipelines.models.embedder import choose_embedder

    return choose_embedder(params, tuned)


def load_index_embedder(workspace: Workspace, embedder: Embedder, tuned: BuiltEmbedder | None) -> LoadedEmbedder:
    """The retriever that made an index; that of params.yaml (`embedder`) where it was not tuned, or from another one.

    Raises RefusalError where its weights are not on this machine.
    """
    embed = workspace.params.embed
    if tuned is None or is_plugin(embed.model):
        return LoadedEmbedder(embedder)
    from ragtide.pipelines.models.embedder import embedder_base

    if embedder_base(embed) != tuned.base:
        return LoadedEmbedder(embedder)
    return LoadedEmbedder(load_embedder(embed, workspace.tuned_embedders / tuned.digest), tuned)


def load_generator(params: GenerateParams) -> Generator:
    """The generator that `params` name; also that of an older release, whose base may be another than today's."""
    if is_plugin(params.model):
        generator: Generator = _plugin("generate.model", params.model, params)
        return generator
    from ragtide.pipelines.models.generator import TransformersGenerator

    return TransformersGenerator(params)


def _trainer(params: Params) -> Trainer:
    if is_plugin(params.finetune.trainer):
        trainer: Trainer = _plugin("finetune.trainer", params.finetune.trainer, params.finetune)
        return trainer
    if params.finetune.trainer != "lora":
        raise UserError(f"finetune.trainer = {params.finetune.trainer!r}: known are lora, or module:Class of your own")
    from ragtide.pipelines.models.lora import LoraTrainer

    return LoraTrainer(params.finetune, params.generate)


def _plugin(key: str, name: str, block: Block) -> Any:
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise UserError(f"{key} = {name!r} cannot be imported: {problem}") from problem
    try:
        return made(block)
    except TypeError as problem:
        how = f"it is called with the block {key.split('.', maxsplit=1)[0]} of params.yaml"
        raise UserError(f"{key} = {name!r} cannot be made ({summarize_error(problem)}): {how}") from problem
