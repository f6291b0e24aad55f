"""Factory of the embedder, generator and trainer that params.yaml names, built-in or a user's own class."""

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
    """The embedder, generator and trainer of a project; each loads its weights on first use."""

    embedder: Embedder
    generator: Generator
    trainer: Trainer


@dataclass(frozen=True)
class LoadedEmbedder:
    """An embedder and the record of its fine-tuning; `tuned` is None for the embedder that params.yaml names."""

    embedder: Embedder
    tuned: BuiltEmbedder | None = None


def load_models(params: Params) -> Models:
    """Make the models that params.yaml names; a `module:Class` is called with the block that names it."""
    return Models(
        embedder=load_embedder(params.embed), generator=load_generator(params.generate), trainer=_load_trainer(params)
    )


def is_plugin(name: str) -> bool:
    """Whether a name in params.yaml is a user's own class, `module:Class`."""
    return bool(_PLUGIN.match(name))


def load_embedder(params: EmbedParams, tuned: Path | None = None) -> Embedder:
    """Make the embedder that `params` describes: the current one, or that of an older release.

    `tuned` is the folder of an embedder fine-tuned from it. Raises UserError if it was tuned from another model.
    """
    if is_plugin(params.model):
        if tuned is not None:
            raise UserError(f"embed.model = {params.model!r} is a class of your own, which cannot be fine-tuned")
        embedder: Embedder = _plugin("embed.model", params.model, params)
        return embedder
    from ragtide.pipelines.models.embedder import choose_embedder

    return choose_embedder(params, tuned)


def embedder_identity(params: EmbedParams, embedder: Embedder) -> str:
    """What changes with the weights of `embed.model`; nothing is loaded, unless by a user's own class."""
    if is_plugin(params.model):
        return embedder.fingerprint
    from ragtide.pipelines.models.embedder import embedder_base

    return embedder_base(params)


def load_index_embedder(workspace: Workspace, embedder: Embedder, tuned: BuiltEmbedder | None) -> LoadedEmbedder:
    """The embedder that made an index: the fine-tuned one if it was tuned from embed.model, else `embedder`.

    Raises UserError if the fine-tuned weights are not on this machine.
    """
    embed = workspace.params.embed
    if tuned is None or is_plugin(embed.model):
        return LoadedEmbedder(embedder)
    from ragtide.pipelines.models.embedder import embedder_base

    if embedder_base(embed) != tuned.base:
        return LoadedEmbedder(embedder)
    return LoadedEmbedder(load_embedder(embed, workspace.tuned_embedders / tuned.digest), tuned)


def load_generator(params: GenerateParams) -> Generator:
    """Make the generator that `params` describes: the current one, or that of an older release with another base."""
    if is_plugin(params.model):
        generator: Generator = _plugin("generate.model", params.model, params)
        return generator
    from ragtide.pipelines.models.generator import TransformersGenerator

    return TransformersGenerator(params)


def _load_trainer(params: Params) -> Trainer:
    if is_plugin(params.finetune.trainer):
        trainer: Trainer = _plugin("finetune.trainer", params.finetune.trainer, params.finetune)
        return trainer
    if params.finetune.trainer != "lora":
        raise UserError(
            f"finetune.trainer = {params.finetune.trainer!r}: it should be lora, or a module:Class of your own"
        )
    from ragtide.pipelines.models.lora import LoraTrainer

    return LoraTrainer(params.finetune, params.generate)


def _plugin(key: str, name: str, block: Block) -> Any:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise UserError(f"{key} = {name!r} cannot be imported: {problem}") from problem
    try:
        return factory(block)
    except TypeError as problem:
        how = f"it is called with the block {key.split('.', maxsplit=1)[0]} of params.yaml"
        raise UserError(f"{key} = {name!r} cannot be constructed ({summarize_error(problem)}): {how}") from problem
