"""DVC's cache of file contents: verified reads, damaged objects, and lists of folders from elsewhere.

An object's name is the MD5 of its content. DVC itself trusts that name: it restores a damaged object as it is, and
follows a folder's list out of the folder. Source of the layout: dvc_data.hashfile.db.local, dvc.cachemgr.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ragtide.pipelines.data.dvc import read_dvc_config
from ragtide.pipelines.data.hashing import file_hash, read_verified
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.workspace import Workspace

# The end of the hash of a folder, whose object lists the folder's files.
FOLDER_SUFFIX = ".dir"
DAMAGED_HINT = "`ragtide verify --deep --repair` restores it where another copy exists"


def cached_object(root: Path, digest: str) -> Path:
    """Where the cache keeps the content with this MD5."""
    return _cache_folder(root) / "files" / "md5" / digest[:2] / digest[2:]


def read_earlier_file(workspace: Workspace, digest: str) -> bytes | None:
    """A file of an earlier snapshot by its MD5, from DVC's cache; None where the cache does not hold it whole."""
    with suppress(UserError):
        return read_verified(cached_object(workspace.root, digest), digest)
    return None


def is_damaged(root: Path, digest: str) -> bool:
    """Whether the cache has an object of that name whose content is another one."""
    path = cached_object(root, digest)
    return path.is_file() and file_hash(path) != digest.removesuffix(FOLDER_SUFFIX)


def restore_object(root: Path, digest: str, intact: Path | bytes) -> None:
    """Put an intact content, or that of a file, into the cache again, read-only as DVC's own objects are."""
    path = cached_object(root, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(intact if isinstance(intact, bytes) else intact.read_bytes())
    unfinished.chmod(0o444)
    unfinished.replace(path)


def check_restorable(root: Path, digest: str) -> None:
    """Raise UserError where `dvc checkout` of a file or folder would restore damage, or write outside of the folder.

    What the cache does not hold is not restored either, and passes.
    """
    if is_damaged(root, digest):
        raise UserError(f"{cached_object(root, digest)} is damaged: {DAMAGED_HINT}")
    for path, content in _listed(root, digest).items():
        if not is_inside(path):
            raise UserError(f"{path!r} in a list of files leaves the folder that it describes: its source is not safe")
        if is_damaged(root, content):
            damaged = cached_object(root, content)
            raise UserError(f"{damaged}, the content of {path}, is damaged: {DAMAGED_HINT}")


def is_inside(path: str) -> bool:
    """Whether a relative path with slashes stays in its folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts and "\0" not in path


def _listed(root: Path, digest: str) -> dict[str, str]:
    """Path -> MD5 of the files in a folder, where the digest is one of a folder and the cache holds its list."""
    path = cached_object(root, digest)
    if not digest.endswith(FOLDER_SUFFIX) or not path.is_file():
        return {}
    try:
        return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UserError(f"{path} is no list of a folder's files ({summarize_error(problem)}): delete it") from problem


def _cache_folder(root: Path) -> Path:
    """The folder of DVC's cache; a relative path in DVC's configuration is relative to that file."""
    return root / ".dvc" / read_dvc_config(root).get("cache", "dir", fallback="cache")
