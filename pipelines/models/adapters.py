"""Storage of LoRA adapters, named by their content, and the check that an adapter fits the base model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.weights import store_by_digest
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.workspace import Workspace

# Stands beside an adapter's weights; its content is part of the adapter's digest.
BASE = "base.json"


class AdapterBase(Record):
    """The base model that an adapter was trained on, as `Generator.base` names it: the model, `@`, its revision."""

    base: str


def adapter_folder(workspace: Workspace, model: BuiltModel) -> Path | None:
    """The folder of a model's adapter; None for the base model alone. Raises UserError if it is missing."""
    if model.adapter is None:
        return None
    folder = workspace.adapters / model.adapter
    if not folder.is_dir():
        how = "`ragtide rollback` to a release whose adapter exists, or retrain"
        raise UserError(f"the adapter folder {folder} is missing: {how}")
    return folder


def adapter_digest(folder: Path) -> str:
    """The adapter's name: twelve hex digits of the SHA-256 over its file names and contents.

    Not computed by `weights_digest`, whose value is part of every embedder and generator fingerprint: a change to
    either digest would invalidate the adapters, tuned embedders and indexes of existing releases.
    """
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:12]


def store_adapter(unfinished: Path, adapters: Path, base: str) -> str:
    """Move a new adapter of `base` to `adapters`/digest and return the digest; an equal adapter there is kept."""
    AdapterBase(base=base).write(unfinished / BASE)
    digest = adapter_digest(unfinished)
    store_by_digest(unfinished, adapters, digest)
    return digest


def is_same_base(first: str, second: str) -> bool:
    """Whether two base names stand for the same weights; the folder before the `@` may differ between machines."""
    return first.rpartition("@")[2] == second.rpartition("@")[2]


def check_adapter_base(adapter: Path, base: str) -> None:
    """Raise UserError if an adapter was trained on another base; an adapter without a recorded base passes."""
    record = adapter / BASE
    if not record.is_file():
        return
    trained_on = AdapterBase.read(record).base
    if not is_same_base(trained_on, base):
        how = "restore generate.model in params.yaml, or retrain"
        raise UserError(f"adapter {adapter.name} was trained on {trained_on}, not on {base}: {how}")
