"""Which models does a project use? The three ports filled as params.yaml says, from here or from code of the user."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from pipelines.errors import RefusalError, one_line
from pipelines.params import Block, EmbedParams, Params
from pipelines.ports import Embedder, Generator, Trainer

_PLUGIN = re.compile(r"^[A-Za-z_][\w.]*:[A-Z]\w*$")


@dataclass(frozen=True)
class Models:
    """The embedder, the generator and the trainer of one project; nothing is loaded before it is used."""

    embedder: Embedder
    generator: Generator
    trainer: Trainer


def load_models(params: Params) -> Models:
    """Fill the ports. `module:Class` is imported and called with the block of params.yaml that names it."""
    return Models(embedder=load_embedder(params.embed), generator=_generator(params), trainer=_trainer(params))


def load_embedder(params: EmbedParams) -> Embedder:
    """The embedder that `params` name; also that of an older release, whose settings may be others than today's."""
    if _PLUGIN.match(params.model):
        embedder: Embedder = _plugin("embed.model", params.model, params)
        return embedder
    from pipelines.build.embed import choose_embedder

    return choose_embedder(params)


def _generator(params: Params) -> Generator:
    if _PLUGIN.match(params.generate.model):
        generator: Generator = _plugin("generate.model", params.generate.model, params.generate)
        return generator
    from pipelines.build.generate import TransformersGenerator

    return TransformersGenerator(params.generate)


def _trainer(params: Params) -> Trainer:
    if _PLUGIN.match(params.finetune.trainer):
        trainer: Trainer = _plugin("finetune.trainer", params.finetune.trainer, params.finetune)
        return trainer
    if params.finetune.trainer != "lora":
        raise RefusalError(
            f"finetune.trainer = {params.finetune.trainer!r}: known are lora, or module:Class of your own"
        )
    from pipelines.build.finetune import LoraTrainer

    return LoraTrainer(params.finetune, params.generate)


def _plugin(key: str, name: str, block: Block) -> Any:
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise RefusalError(f"{key} = {name!r} cannot be imported: {problem}") from problem
    try:
        return made(block)
    except TypeError as problem:
        how = f"it is called with the block {key.split('.', maxsplit=1)[0]} of params.yaml"
        raise RefusalError(f"{key} = {name!r} cannot be made ({one_line(problem)}): {how}") from problem
