"""Free disk space: required before a build, and named after a failure that a full disk may have caused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ragtide.pipelines.errors import UserError

MEGABYTE = 1_000_000
# What a run needs at least: the records of a cycle in the databases of MLflow and Prefect.
RUN_BYTES = 32 * MEGABYTE
# Below this, writes of a few records already fail.
FULL_BYTES = 4 * MEGABYTE
# How libraries describe a full disk or an exceeded quota.
FULL_DISK = ("no space left on device", "database or disk is full", "quota exceeded", "disk i/o error")


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise UserError where the disk of `folder` has not `needed_bytes` free, or not what any run needs."""
    needed, free = max(needed_bytes, RUN_BYTES), free_bytes(folder)
    if free < needed:
        raise UserError(
            f"{folder} has {free / MEGABYTE:.0f} MB free, and {purpose} needs about {needed / MEGABYTE:.0f} MB: "
            "free disk space, for example with `ragtide maintain`"
        )


def free_bytes(folder: Path) -> int:
    """The bytes that this user may still write to the disk of a folder, which need not exist yet."""
    # os.path.exists takes a path that is too long, or not readable, for a missing one.
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110
    return shutil.disk_usage(existing).free


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def describe_full_disks(problem: str, folders: tuple[Path, ...]) -> str:
    """The folders whose disk is full, with what is free; empty where neither `problem` nor a disk suggests one."""
    is_suspected = any(text in problem.lower() for text in FULL_DISK)
    limit = RUN_BYTES if is_suspected else FULL_BYTES
    free = {folder: free_bytes(folder) for folder in folders}
    return ", ".join(f"{folder} has {size / MEGABYTE:.1f} MB free" for folder, size in free.items() if size < limit)
