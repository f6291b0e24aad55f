"""What have the sources elsewhere that documents are imported from? `dvc update`, then the same files in data/.

An import lies in data/imports/kb/NAME (or train, golden), with its pointer NAME.dvc, and is copied to NAME in the
knowledge base. It cannot lie there itself: DVC lets no output overlap another, and takes an import's files away where
an update fails (docs/decisions/0020).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ragtide.pipelines.data.dvc import run_dvc
from ragtide.pipelines.data.snapshot import hash_files
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.workspace import Workspace

PASSWORD = re.compile(r"(?<=://)[^/\s@]*@")


@dataclass(frozen=True)
class DataImport:
    """A pointer below data/imports, where its files come from, and where they are copied to."""

    pointer: Path
    source: str
    target: Path

    @property
    def files(self) -> Path:
        """What DVC brings: a folder, or one file."""
        return self.pointer.with_suffix("")


@dataclass(frozen=True)
class ImportUpdate:
    """What came of looking at one import's source. `problem` says why the files are still those of before."""

    name: str
    source: str
    problem: str | None = None
    changed: int = 0


class ImportCopy(Record):
    """The files of an import (path -> MD5) as they were last copied, and when its source last answered (UTC)."""

    source: str
    files: dict[str, str]
    at: str


def update_imports(workspace: Workspace) -> list[ImportUpdate]:
    """Bring every import up to its source. One whose source is away stays as it is, and says so.

    The project must be held for writing. Raises RefusalError for an import where it cannot be updated safely.
    """
    _refuse_inside(workspace)
    return [*_whole(workspace), *(_update(workspace, one) for one in list_imports(workspace))]


def list_imports(workspace: Workspace) -> list[DataImport]:
    """The imports of a project, by kind and name."""
    return [
        DataImport(pointer, source, target / pointer.stem)
        for kind, target in _folders(workspace).items()
        for pointer, source in _imported(sorted((workspace.imports / kind).glob("*.dvc")))
    ]


def _update(workspace: Workspace, one: DataImport) -> ImportUpdate:
    name = one.pointer.relative_to(workspace.imports).with_suffix("").as_posix()
    note = workspace.state / "imports" / f"{name}.json"
    before = ImportCopy.read(note).files if note.is_file() else hash_files(one.files)
    pointer = str(one.pointer.relative_to(workspace.root))
    try:
        run_dvc(workspace.root, ["update", pointer], workspace.params.triggers.update_minutes * 60)
    except UserError as problem:
        # A failed update has taken the files away; DVC's cache has them.
        with suppress(UserError):
            run_dvc(workspace.root, ["checkout", pointer])
        return ImportUpdate(name, one.source, PASSWORD.sub("", str(problem)))
    now = hash_files(one.files)
    try:
        changed = _copy(one, before, now)
    except OSError as problem:
        return ImportUpdate(
            name, one.source, f"{problem.filename or one.target} cannot be written ({summarize_error(problem)})"
        )
    except UserError as problem:
        return ImportUpdate(name, one.source, str(problem))
    ImportCopy(source=one.source, files=now, at=datetime.now(UTC).isoformat(timespec="seconds")).write(note)
    return ImportUpdate(name, one.source, changed=changed)


def _copy(one: DataImport, before: dict[str, str], now: dict[str, str]) -> int:
    """Make the target hold what the import holds now; a file there that no import brought stays. Counts changes."""
    there = hash_files(one.target)
    gone = [path for path in before if path not in now and there.get(path) == before[path]]
    new = [path for path, digest in now.items() if there.get(path) != digest]
    own = [path for path in new if path in there and path not in before]
    if own:
        raise UserError(f"{one.target / own[0]} is a file of your own that the import would replace: move it away")
    for path in gone:
        (one.target / path).unlink()
    for path in new:
        target = one.target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.tmp")
        shutil.copyfile(one.files / path, unfinished)
        unfinished.replace(target)
    return len(gone) + len(new)


def _refuse_inside(workspace: Workspace) -> None:
    for kind, folder in _folders(workspace).items():
        for pointer, _ in _imported(sorted(folder.rglob("*.dvc"))):
            inside = f"{pointer} is an import inside a folder that is versioned as a whole, which DVC cannot do"
            raise UserError(f"{inside}: `dvc remove` it, and import to data/imports/{kind}/{pointer.stem}")


def _whole(workspace: Workspace) -> list[ImportUpdate]:
    """A data folder that is an import itself stays as it is: DVC would take it away where an update fails."""
    pointers = {kind: folder.with_name(f"{folder.name}.dvc") for kind, folder in _folders(workspace).items()}
    return [
        ImportUpdate(kind, source, f"a whole folder is not updated: import to data/imports/{kind}/NAME instead")
        for kind, pointer in pointers.items()
        for _, source in _imported([pointer])
    ]


def _folders(workspace: Workspace) -> dict[str, Path]:
    return {"kb": workspace.kb, "train": workspace.train, "golden": workspace.golden}


def _imported(pointers: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Those that are imports, with their sources."""
    return ((pointer, source) for pointer in pointers if (source := _source(pointer)) is not None)


def _source(pointer: Path) -> str | None:
    """Where a pointer's files come from, without passwords; None for one that is no import, or cannot be read."""
    try:
        content: Any = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        dependency = content["deps"][0]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return None
    repository = dependency.get("repo", {}).get("url")
    where = f"{repository} {dependency.get('path', '')}" if repository else str(dependency.get("path", ""))
    return PASSWORD.sub("", where)
