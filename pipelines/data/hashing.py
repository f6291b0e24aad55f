"""Content hashes of files and folders in DVC's form, and verified reads.

Nothing here calls DVC: a snapshot can be taken, and a plan made, without changing anything on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import NoReturn

from pathspec import GitIgnoreSpec

from ragtide.pipelines.errors import UserError, summarize_error


def list_files(folder: Path, root: Path, ignore: GitIgnoreSpec) -> list[str]:
    """Paths of the files below `folder`, relative to it, with slashes, sorted. Links to folders are not followed.

    `ignore` holds rules for paths below `root`, as DVC reads them. Raises UserError for an unreadable folder.
    """

    def fail(problem: OSError) -> NoReturn:
        raise unreadable_file(Path(problem.filename), problem) from problem

    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder, onerror=fail) for name in names]  # noqa: PTH118
    kept = [path for path in paths if not ignore.match_file(Path(path).relative_to(root).as_posix())]
    return sorted(Path(path).relative_to(folder).as_posix() for path in kept)


def hash_files(path: Path) -> dict[str, str]:
    """Relative path -> MD5 of every file below a folder; {"": MD5} for a file; {} where nothing exists."""
    if path.is_file():
        return {"": file_hash(path)}
    return {name: file_hash(path / name) for name in list_files(path, path, GitIgnoreSpec([]))} if path.is_dir() else {}


def file_hash(path: Path) -> str:
    """The MD5 of a file's bytes (32 hex digits), as in DVC."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as problem:
        raise unreadable_file(path, problem) from problem


def folder_list(files: dict[str, str]) -> bytes:
    """DVC's list of a folder: the JSON of its (md5, relpath) pairs in order of relpath.

    Source: dvc_data.hashfile.tree.Tree.as_bytes.
    """
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    return json.dumps(entries, sort_keys=True).encode()


def folder_hash(files: dict[str, str]) -> str:
    """DVC's hash of a folder: the MD5 of its list, and `.dir`."""
    return hashlib.md5(folder_list(files), usedforsecurity=False).hexdigest() + ".dir"


def read_verified(path: Path, digest: str) -> bytes:
    """A file's bytes, checked against the MD5 in the snapshot. Raises UserError if unreadable or changed since."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise unreadable_file(path, problem) from problem
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
        raise UserError(f"{path} changed while it was being read: run the command again")
    return content


def unusable_reason(path: Path, folder: Path) -> str | None:
    """Why neither DVC nor Ragtide can read a file below `folder`; None for a usable one.

    Opens nothing: reading from a pipe would block forever.
    """
    try:
        path.name.encode()
        str(path).encode()
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and os.access(path, os.R_OK):
            return None
        if stat.S_ISLNK(mode) and not path.resolve(strict=True).is_relative_to(folder):
            return "is a link that leaves the folder"
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    except (OSError, RuntimeError) as problem:
        return "is a broken link" if path.is_symlink() else f"cannot be read ({summarize_error(problem)})"
    return None if os.access(path, os.R_OK) else "cannot be read (Permission denied)"


def unreadable_file(path: Path, problem: OSError | UnicodeDecodeError) -> UserError:
    """The error for a file or folder that cannot be read."""
    return UserError(f"{path} cannot be read ({summarize_error(problem)}): fix or remove it")


def printable_path(path: str) -> str:
    """A path that can be displayed and stored in JSON: bytes that are not UTF-8 become escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
