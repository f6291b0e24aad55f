"""Which adapter is it, whose base does it fit, and where does it lie? Named by its content, in one place."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.weights import store_by_digest
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.workspace import Workspace

# Beside an adapter's weights, and under its name as they are.
BASE = "base.json"


class AdapterBase(Record):
    """The base model that an adapter was trained on, as a generator names it: the model, `@`, its revision."""

    base: str


def adapter_folder(workspace: Workspace, model: BuiltModel) -> Path | None:
    """Where a model's adapter lies; None for the base model alone. Raises RefusalError where it is missing."""
    if model.adapter is None:
        return None
    folder = workspace.adapters / model.adapter
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: `ragtide rollback` to a release whose adapter is there, or retrain")
    return folder


def adapter_digest(folder: Path) -> str:
    """Twelve hex digits of the SHA-256 over an adapter's files: its name.

    Not `weights_digest`, which tells base models apart in every fingerprint: another value of either would make
    adapters, retrievers or whole indexes of releases on disk strangers.
    """
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:12]


def store_adapter(unfinished: Path, adapters: Path, base: str) -> str:
    """Move a new adapter of `base` to the place that its content names; an equal one that is there already stays."""
    AdapterBase(base=base).write(unfinished / BASE)
    digest = adapter_digest(unfinished)
    store_by_digest(unfinished, adapters, digest)
    return digest


def is_same_base(one: str, other: str) -> bool:
    """Whether two bases are the same weights; the folder that they lie in may be another on each machine."""
    return one.rpartition("@")[2] == other.rpartition("@")[2]


def check_adapter_base(adapter: Path, base: str) -> None:
    """Raise RefusalError where an adapter was trained on another base; one of before it was recorded passes."""
    note = adapter / BASE
    if not note.is_file():
        return
    trained_on = AdapterBase.read(note).base
    if not is_same_base(trained_on, base):
        how = "set generate.model back in params.yaml, or retrain"
        raise UserError(f"adapter {adapter.name} was trained on {trained_on}, not on {base}: {how}")
