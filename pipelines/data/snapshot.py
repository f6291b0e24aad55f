"""Which state is the data in? Snapshots by DVC's own content hash; the only module that calls DVC.

Hashes are computed here in DVC's form, so that `ragtide plan` can look without changing anything; `record` lets DVC
itself version the folders and refuses when the two disagree.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import yaml
from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.dvc import ensure_repository, run_dvc
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.workspace import Workspace

# What DVC ignores in any case (dvc/ignore.py).
ALWAYS_IGNORED = (".hg/", ".git/", ".git", ".dvc/")
# Snapshots that are looked through for a document's earlier names.
REMEMBERED = 20
# Between these two lines of .dvcignore stand the files that DVC cannot take.
HIDDEN = "# ragtide: files that DVC cannot take; this block is written anew each time"
HIDDEN_END = "# ragtide: end"


def list_files(folder: Path, root: Path, ignore: GitIgnoreSpec) -> list[str]:
    """Paths of the files below `folder`, relative with slashes, sorted. Links to folders are not followed.

    `ignore` holds rules for paths below `root`, as DVC reads them. Raises RefusalError for an unreadable folder.
    """

    def unreadable(problem: OSError) -> NoReturn:
        raise _unreadable(Path(problem.filename), problem) from problem

    found = [os.path.join(parent, name) for parent, _, names in os.walk(folder, onerror=unreadable) for name in names]  # noqa: PTH118
    below = [(path, Path(path).relative_to(root).as_posix()) for path in found]
    kept = [path for path, name in below if not ignore.match_file(name)]
    return sorted(Path(path).relative_to(folder).as_posix() for path in kept)


def folder_hash(files: dict[str, str]) -> str:
    """DVC's hash of a folder: MD5 of the JSON of its (md5, relpath) pairs in order of relpath, and `.dir`.

    Source: dvc_data.hashfile.tree.Tree.as_bytes.
    """
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    content = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


def take_snapshot(workspace: Workspace) -> Snapshot:
    """Look at the three data folders without changing anything. Raises RefusalError where there are no documents.

    A file of the knowledge base that is none that one could read is left out and listed; one among the examples or
    questions is refused, since they are few and each of them counts.
    """
    ignore = ignore_rules(workspace.root)
    kb, unusable = _hash_files(workspace.kb, workspace.root, ignore)
    if not kb:
        hint = "put your documents there, or name the folder in params.yaml (data.kb)"
        state = "holds no file that can be read" if unusable else "is empty"
        raise UserError(f"{workspace.kb} {state if workspace.kb.is_dir() else 'does not exist'}: {hint}")
    train, golden = (_hash_all(folder, workspace.root, ignore) for folder in (workspace.train, workspace.golden))
    return compose_snapshot(kb, train, golden, unusable)


def earlier_snapshots(workspace: Workspace) -> Iterator[Snapshot]:
    """The last snapshots that were recorded, newest first; one at a time."""
    files = sorted(workspace.snapshot_file("*").parent.glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)
    for file in files[:REMEMBERED]:
        # One that cannot be read is `ragtide verify`'s to tell.
        with suppress(UserError):
            yield Snapshot.read(file)


def earlier_documents(workspace: Workspace) -> Iterator[Mapping[str, str]]:
    """The documents of the last snapshots that were recorded (name -> MD5), newest first; one at a time."""
    return (snapshot.documents for snapshot in earlier_snapshots(workspace))


def read_earlier_file(workspace: Workspace, digest: str) -> bytes | None:
    """A file of an earlier snapshot by its MD5, out of DVC's cache; None where it is not there any more, or not whole.

    Source of the layout: dvc_data.hashfile.db.local, dvc.cachemgr.
    """
    path = _cache(workspace.root) / "files" / "md5" / digest[:2] / digest[2:]
    with suppress(UserError):
        return read_verified(path, digest)
    return None


def _cache(root: Path) -> Path:
    """Where DVC keeps what it has versioned; a folder that its config names is relative to that config."""
    settings = ConfigParser()
    try:
        settings.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (UnicodeDecodeError, ConfigParserError) as problem:
        raise UserError(
            f"{root / '.dvc' / 'config'} is none that DVC can read: {summarize_error(problem)}"
        ) from problem
    return root / ".dvc" / settings.get("cache", "dir", fallback="cache")


def compose_snapshot(
    kb: dict[str, str], train: dict[str, str], golden: dict[str, str], unusable: dict[str, str] | None = None
) -> Snapshot:
    """The snapshot of three folders' files (path -> MD5). Its id is DVC's hash of the three as one folder."""
    folders = {"kb": kb, "train": train, "golden": golden}
    whole = {f"{name}/{path}": digest for name, files in folders.items() for path, digest in files.items()}
    return Snapshot(
        id=folder_hash(whole),
        kb_id=folder_hash(kb),
        train_id=folder_hash(train),
        golden_id=folder_hash(golden),
        documents=kb,
        examples=train,
        questions=golden,
        unusable=unusable or {},
    )


def _hash_files(folder: Path, root: Path, ignore: GitIgnoreSpec) -> tuple[dict[str, str], dict[str, str]]:
    """(path -> MD5, path -> why it cannot be taken) of the files below a folder."""
    files: dict[str, str] = {}
    unusable: dict[str, str] = {}
    home = folder.resolve()
    for path in list_files(folder, root, ignore) if folder.is_dir() else ():
        why = _unusable(folder / path, home)
        if why:
            unusable[printable_path(path)] = why
        else:
            files[path] = _md5(folder / path)
    return files, unusable


def _hash_all(folder: Path, root: Path, ignore: GitIgnoreSpec) -> dict[str, str]:
    files, unusable = _hash_files(folder, root, ignore)
    for path, why in unusable.items():
        raise UserError(f"{folder / path} {why}: put it right or remove it")
    return files


def hash_files(path: Path) -> dict[str, str]:
    """(path -> MD5) of every file below a folder; of a file "" -> MD5, and nothing of what is not there."""
    if path.is_file():
        return {"": _md5(path)}
    return {name: _md5(path / name) for name in list_files(path, path, GitIgnoreSpec([]))} if path.is_dir() else {}


def _unusable(path: Path, folder: Path) -> str | None:
    """Why neither DVC nor Ragtide can take a file; None where they can. Opens nothing: a pipe would never end."""
    try:
        path.name.encode()
        str(path).encode()
        kind = path.lstat().st_mode
        if stat.S_ISREG(kind) and os.access(path, os.R_OK):
            return None
        if stat.S_ISLNK(kind) and not path.resolve(strict=True).is_relative_to(folder):
            return "is a link that leaves the folder"
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    except (OSError, RuntimeError) as problem:
        return "is a link to nothing" if path.is_symlink() else f"cannot be read ({summarize_error(problem)})"
    return None if os.access(path, os.R_OK) else "cannot be read (Permission denied)"


def printable_path(path: str) -> str:
    """A path as it can be shown and kept in JSON: bytes that are not UTF-8 become escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def read_verified(path: Path, digest: str) -> bytes:
    """A file's bytes as a snapshot knows them. Raises RefusalError where they cannot be read or have changed since."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
        raise UserError(f"{path} changed while it was being read: run again")
    return content


def _unreadable(path: Path, problem: OSError | UnicodeDecodeError) -> UserError:
    return UserError(f"{path} cannot be read ({summarize_error(problem)}): put it right or remove it")


def ignore_rules(root: Path) -> GitIgnoreSpec:
    """The user's rules alone: what Ragtide hides from DVC is looked at again each time."""
    return GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *(line.strip() for line in _ignore_lines(root))])


def _ignore_lines(root: Path) -> list[str]:
    rules = root / ".dvcignore"
    try:
        lines = rules.read_text(encoding="utf-8").split("\n") if rules.is_file() else []
    except (OSError, UnicodeDecodeError) as problem:
        raise _unreadable(rules, problem) from problem
    if HIDDEN not in lines:
        return lines
    first = lines.index(HIDDEN)
    last = lines.index(HIDDEN_END) if HIDDEN_END in lines else len(lines) - 1
    return lines[:first] + lines[last + 1 :]


def _hide(workspace: Workspace, snapshot: Snapshot) -> None:
    """Keep DVC from the files that it would fail on, by a block of rules in .dvcignore; no such file, no block."""
    rules = workspace.root / ".dvcignore"
    now = rules.read_text(encoding="utf-8") if rules.is_file() else ""
    if not snapshot.unusable and HIDDEN not in now:
        return
    ignore = ignore_rules(workspace.root)
    home, below = workspace.kb.resolve(), workspace.kb.relative_to(workspace.root).as_posix()
    files = list_files(workspace.kb, workspace.root, ignore)
    unusable = [path for path in files if _unusable(workspace.kb / path, home)]
    hidden = [f"/{below}/{_as_rule(path)}" for path in unusable]
    # A rule with a `?` in it may match the name of a file that is all right.
    patterns, taken = GitIgnoreSpec.from_lines(hidden), set(unusable)
    spared = [path for path in files if path not in taken and patterns.match_file(f"{below}/{path}")]
    block = [HIDDEN, *hidden, *(f"!/{below}/{_as_rule(path)}" for path in spared), HIDDEN_END] if unusable else []
    own = [line for line in ["\n".join(_ignore_lines(workspace.root)).rstrip("\n")] if line]
    wanted = "".join(f"{line}\n" for line in [*own, *block])
    if wanted != now:
        rules.write_text(wanted, encoding="utf-8")


def _as_rule(path: str) -> str:
    """A pattern that matches `path`: what has a meaning in patterns is escaped, what cannot be written is a `?`."""
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)
    return re.sub(r"[\x00-\x1f\ud800-\udfff]", "?", escaped)


def record_snapshot(workspace: Workspace) -> Snapshot:
    """Version the data folders with DVC and keep the snapshot's manifest. Changes nothing where nothing has changed."""
    ensure_repository(workspace.root)
    snapshot = take_snapshot(workspace)
    _hide(workspace, snapshot)
    folders = {workspace.kb: snapshot.kb_id, workspace.train: snapshot.train_id, workspace.golden: snapshot.golden_id}
    moved = [folder for folder, expected in folders.items() if folder.is_dir() and _recorded(folder) != expected]
    # Where the manifest cannot be kept, nothing is to be versioned either.
    workspace.snapshot_file(snapshot.id).parent.mkdir(parents=True, exist_ok=True)
    if moved:
        run_dvc(workspace.root, ["add", *(str(folder.relative_to(workspace.root)) for folder in moved)])
    for folder in moved:
        if _recorded(folder) != folders[folder]:
            what = f"{folder} changed while DVC was versioning it: run again"
            hint = "if it stays so, see whether a .dvcignore other than the one at the project's root hides files there"
            raise UserError(f"{what}; {hint}")
    snapshot.write(workspace.snapshot_file(snapshot.id))
    return snapshot


def _recorded(folder: Path) -> str | None:
    pointer = folder.with_name(folder.name + ".dvc")
    if not pointer.is_file():
        return None
    try:
        return str(yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError) as problem:
        how = "put it right, or remove it and Ragtide makes it anew"
        raise UserError(f"{pointer} is not a pointer that DVC wrote: {how}") from problem
