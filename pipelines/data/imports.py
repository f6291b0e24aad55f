"""Imports of data from other repositories and storage: `dvc update`, then a copy of the files into data/.

An import lives in data/imports/kb/NAME (or train, golden), with its pointer file NAME.dvc, and is copied to NAME in
the knowledge base. It cannot live there itself: DVC forbids overlapping outputs, and deletes an import's files when an
update fails (docs/decisions/0020).
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
from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.dvc import run_dvc
from ragtide.pipelines.data.dvc_cache import check_restorable, is_inside
from ragtide.pipelines.data.hashing import hash_files, list_files, unusable_reason
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.workspace import Workspace

PASSWORD = re.compile(r"(?<=://)[^/\s@]*@")


@dataclass(frozen=True)
class DataImport:
    """A pointer file below data/imports, the source of its files, and the path that they are copied to."""

    pointer: Path
    source: str
    target: Path

    @property
    def files(self) -> Path:
        """Where DVC puts the files: a folder, or a single file."""
        return self.pointer.with_suffix("")


@dataclass(frozen=True)
class ImportUpdate:
    """The result of updating one import. `problem` says why its files are unchanged, if the update failed."""

    name: str
    source: str
    problem: str | None = None
    changed: int = 0


class ImportCopy(Record):
    """The files of an import (path -> MD5) as last copied, and when its source last answered (ISO 8601, UTC)."""

    source: str
    files: dict[str, str]
    at: str


def update_imports(workspace: Workspace) -> list[ImportUpdate]:
    """Update every import from its source. If a source is unavailable, its files stay and the result says why.

    The caller must hold the project's write lock. Raises UserError for an import that cannot be updated safely.
    """
    _check_nested_imports(workspace)
    return [*_folder_imports(workspace), *(_update(workspace, data_import) for data_import in list_imports(workspace))]


def list_imports(workspace: Workspace) -> list[DataImport]:
    """The imports of a project, in order of kind and name."""
    return [
        DataImport(pointer, source, target / pointer.stem)
        for kind, target in workspace.data_folders.items()
        for pointer, source in _with_sources(sorted((workspace.imports / kind).glob("*.dvc")))
    ]


def _update(workspace: Workspace, data_import: DataImport) -> ImportUpdate:
    name = data_import.pointer.relative_to(workspace.imports).with_suffix("").as_posix()
    record = workspace.state / "imports" / f"{name}.json"
    before = ImportCopy.read(record).files if record.is_file() else hash_files(data_import.files)
    pointer = str(data_import.pointer.relative_to(workspace.root))
    try:
        _check_source(workspace, data_import)
    except UserError as problem:
        return ImportUpdate(name, data_import.source, str(problem))
    try:
        run_dvc(workspace.root, ["update", pointer], workspace.params.triggers.update_minutes * 60)
    except UserError as problem:
        # A failed update has deleted the files; DVC's cache still has them.
        with suppress(UserError):
            run_dvc(workspace.root, ["checkout", pointer])
        return ImportUpdate(name, data_import.source, PASSWORD.sub("", _explain(str(problem))))
    after = hash_files(data_import.files)
    try:
        changed = _copy(data_import, before, after)
    except OSError as problem:
        reason = f"{problem.filename or data_import.target} cannot be written ({summarize_error(problem)})"
        return ImportUpdate(name, data_import.source, reason)
    except UserError as problem:
        return ImportUpdate(name, data_import.source, str(problem))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    ImportCopy(source=data_import.source, files=after, at=at).write(record)
    return ImportUpdate(name, data_import.source, changed=changed)


def _check_source(workspace: Workspace, data_import: DataImport) -> None:
    """Raise UserError for an import that would write outside of its folder, or read outside of its source.

    DVC follows links of a local source, and the paths in a folder's list, wherever they lead.
    """
    content = yaml.safe_load(data_import.pointer.read_text(encoding="utf-8"))
    outputs = [str(output.get("path")) for output in content.get("outs", ())]
    if outputs != [data_import.files.name] or not is_inside(outputs[0]):
        raise UserError(f"{data_import.pointer} writes to {', '.join(outputs) or 'nothing'}: `dvc import` it again")
    if digest := content["outs"][0].get("md5"):
        # The files of a source that does not answer are restored from DVC's cache.
        check_restorable(workspace.root, str(digest))
    source = Path(data_import.source)
    if source.is_absolute() and source.is_dir():
        for path in list_files(source, source, GitIgnoreSpec([])):
            if reason := unusable_reason(source / path, source.resolve()):
                raise UserError(f"{source / path} {reason}: remove it from the source")


def _explain(problem: str) -> str:
    """The error of an update, where DVC's own words do not say what is wrong with the source."""
    if "maximum recursion depth" not in problem:
        return problem
    return f"a path in the source's list of files leaves its folder, as `../name` does: nothing was written ({problem})"


def _copy(data_import: DataImport, before: dict[str, str], after: dict[str, str]) -> int:
    """Make the target equal to the import and return the number of changed files.

    A file in the target that no import brought is kept. Raises UserError where the import would overwrite one.
    """
    target = data_import.target
    existing = hash_files(target)
    removed = [path for path in before if path not in after and existing.get(path) == before[path]]
    changed = [path for path, digest in after.items() if existing.get(path) != digest]
    own = [path for path in changed if path in existing and path not in before]
    if own:
        raise UserError(f"{target / own[0]} is a file of your own that the import would overwrite: move it away")
    for path in removed:
        (target / path).unlink()
    for path in changed:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_name(f"{copy.name}.tmp")
        shutil.copyfile(data_import.files / path, unfinished)
        unfinished.replace(copy)
    return len(removed) + len(changed)


def _check_nested_imports(workspace: Workspace) -> None:
    """Raise UserError for an import below a data folder, which DVC versions as a whole."""
    for kind, folder in workspace.data_folders.items():
        for pointer, _ in _with_sources(sorted(folder.rglob("*.dvc"))):
            message = f"{pointer} is an import inside a folder that is versioned as a whole, which DVC cannot handle"
            raise UserError(f"{message}: `dvc remove` it, and import to data/imports/{kind}/{pointer.stem}")


def _folder_imports(workspace: Workspace) -> list[ImportUpdate]:
    """Data folders that are themselves imports, as failed updates: DVC would delete one whose update fails."""
    pointers = {kind: folder.with_name(f"{folder.name}.dvc") for kind, folder in workspace.data_folders.items()}
    return [
        ImportUpdate(kind, source, f"a whole folder is not updated: import to data/imports/{kind}/NAME instead")
        for kind, pointer in pointers.items()
        for _, source in _with_sources([pointer])
    ]


def _with_sources(pointers: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """(pointer, source) of the pointer files that are imports."""
    return ((pointer, source) for pointer in pointers if (source := _source_of(pointer)) is not None)


def _source_of(pointer: Path) -> str | None:
    """Where a pointer's files come from, without passwords; None if it is no import or cannot be read."""
    try:
        content: Any = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        dependency = content["deps"][0]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return None
    repository = dependency.get("repo", {}).get("url")
    source = f"{repository} {dependency.get('path', '')}" if repository else str(dependency.get("path", ""))
    return PASSWORD.sub("", source)
