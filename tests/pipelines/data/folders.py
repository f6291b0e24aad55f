"""Helpers for tests of data folders: file trees on disk, and what DVC recorded of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from tests.factories import write

EMPTY = "d751713988987e9331980363e24189ce.dir"
PAGES = {
    "index.md": "start",
    "guides/setup.md": "set up",
    "guides/deep/er/down.md": "down",
    "with space/ä ö.md": "umlauts",
    "日本/é.md": "composed",
    "e\u0301.md": "decomposed",
    'it\'s "q".md': "quotes",
    "[x]*?.md": "globs",
    "#hash %20.md": "signs",
    "-dash.md": "dash",
    "back\\slash.md": "backslash",
    "😀.md": "smile",
    "empty.md": "",
    "twin.md": "start",
}
Tree = dict[str, tuple[bytes | str, int]]


def tree(root: Path, pattern: str = "*") -> Tree:
    """Everything below a folder except DVC's own files: path -> (content, modification time in ns)."""
    paths = [path for path in root.rglob(pattern) if ".dvc" not in path.relative_to(root).parts]
    return {
        str(path.relative_to(root)): (path.read_bytes() if path.is_file() else "folder", path.stat().st_mtime_ns)
        for path in paths
    }


def put(folder: Path, files: dict[str, str], seconds: int = 0) -> None:
    """Write `files` in their order, with a modification time of `seconds` after 1970."""
    for name, content in files.items():
        os.utime(write(folder / name, content), (seconds, seconds))


def recorded_id(root: Path, folder: str) -> str:
    """The hash in the pointer file that DVC wrote for one data folder."""
    [out] = yaml.safe_load((root / "data" / f"{folder}.dvc").read_text(encoding="utf-8"))["outs"]
    return str(out["md5"])


def recorded_files(root: Path, folder: str) -> dict[str, str]:
    """DVC's own list of a data folder's files: path -> MD5."""
    digest = recorded_id(root, folder)
    listed = root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listed.read_text(encoding="utf-8"))}
