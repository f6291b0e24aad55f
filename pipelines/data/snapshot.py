"""Snapshots of the three data folders, identified by DVC's content hash.

The hashes are computed here in DVC's form, so that `ragtide plan` changes nothing; `record_snapshot` lets DVC version
the folders and fails when the two disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.dvc import ensure_repository, recorded_hash, run_dvc
from ragtide.pipelines.data.hashing import file_hash, folder_hash, list_files, printable_path, unusable_reason
from ragtide.pipelines.data.ignore import hide_unusable_files, ignore_rules
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import make_folder
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.workspace import Workspace

# How many earlier snapshots are searched for the former names of a document.
REMEMBERED = 20


def take_snapshot(workspace: Workspace) -> Snapshot:
    """Hash the three data folders without changing anything. Raises UserError where there are no documents.

    An unusable file of the knowledge base is skipped and listed; one among the examples or questions is an error,
    since they are few and each of them counts.
    """
    ignore = ignore_rules(workspace.root)
    kb, unusable = _hash_folder(workspace.kb, workspace.root, ignore)
    if not kb:
        hint = "put your documents there, or set data.kb in params.yaml to their folder"
        state = "holds no readable file" if unusable else "is empty"
        raise UserError(f"{workspace.kb} {state if workspace.kb.is_dir() else 'does not exist'}: {hint}")
    train, golden = (_hash_usable(folder, workspace.root, ignore) for folder in (workspace.train, workspace.golden))
    return compose_snapshot(kb, train, golden, unusable)


def compose_snapshot(
    kb: dict[str, str], train: dict[str, str], golden: dict[str, str], unusable: dict[str, str] | None = None
) -> Snapshot:
    """The snapshot of three folders' files (path -> MD5). Its id is DVC's hash of the three as one folder."""
    folders = {"kb": kb, "train": train, "golden": golden}
    all_files = {f"{name}/{path}": digest for name, files in folders.items() for path, digest in files.items()}
    return Snapshot(
        id=folder_hash(all_files),
        kb_id=folder_hash(kb),
        train_id=folder_hash(train),
        golden_id=folder_hash(golden),
        documents=kb,
        examples=train,
        questions=golden,
        unusable=unusable or {},
    )


def record_snapshot(workspace: Workspace) -> Snapshot:
    """Version the data folders with DVC and store the snapshot's manifest; unchanged data changes nothing."""
    ensure_repository(workspace.root)
    snapshot = take_snapshot(workspace)
    hide_unusable_files(workspace, snapshot)
    folders = {workspace.kb: snapshot.kb_id, workspace.train: snapshot.train_id, workspace.golden: snapshot.golden_id}
    changed = [folder for folder, expected in folders.items() if folder.is_dir() and recorded_hash(folder) != expected]
    # If the manifest cannot be stored, nothing is to be versioned either.
    make_folder(workspace.snapshot_file(snapshot.id).parent)
    if changed:
        run_dvc(workspace.root, ["add", *(str(folder.relative_to(workspace.root)) for folder in changed)])
    for folder in changed:
        if recorded_hash(folder) != folders[folder]:
            message = f"{folder} changed while DVC was versioning it: run the command again"
            hint = "if this persists, check whether a .dvcignore other than the one at the project's root hides files"
            raise UserError(f"{message}; {hint}")
    snapshot.write(workspace.snapshot_file(snapshot.id))
    return snapshot


def earlier_snapshots(workspace: Workspace) -> Iterator[Snapshot]:
    """The last recorded snapshots, newest first, read one at a time."""
    files = sorted(workspace.snapshot_file("*").parent.glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)
    for file in files[:REMEMBERED]:
        # `ragtide verify` reports an unreadable one.
        with suppress(UserError):
            yield Snapshot.read(file)


def earlier_documents(workspace: Workspace) -> Iterator[Mapping[str, str]]:
    """The documents of the last recorded snapshots (name -> MD5), newest first, read one at a time."""
    return (snapshot.documents for snapshot in earlier_snapshots(workspace))


def _hash_folder(folder: Path, root: Path, ignore: GitIgnoreSpec) -> tuple[dict[str, str], dict[str, str]]:
    """(path -> MD5 of the usable files, path -> reason of the unusable ones) below a folder."""
    files: dict[str, str] = {}
    unusable: dict[str, str] = {}
    resolved = folder.resolve()
    for path in list_files(folder, root, ignore) if folder.is_dir() else ():
        reason = unusable_reason(folder / path, resolved)
        if reason:
            unusable[printable_path(path)] = reason
        else:
            files[path] = file_hash(folder / path)
    return files, unusable


def _hash_usable(folder: Path, root: Path, ignore: GitIgnoreSpec) -> dict[str, str]:
    """Path -> MD5 of the files below a folder. Raises UserError for an unusable one."""
    files, unusable = _hash_folder(folder, root, ignore)
    for path, reason in unusable.items():
        raise UserError(f"{folder / path} {reason}: fix or remove it")
    return files
