"""All calls of DVC, and the layout of its pointer files, configuration and cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from pathlib import Path

import yaml

from ragtide.pipelines.data.hashing import read_verified
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.records.base import STATE, close_to_others, make_folder
from ragtide.pipelines.workspace import Workspace

# The folder of DVC's site cache below the project's state.
SITE_CACHE = "dvc"


def run_dvc(root: Path, arguments: Sequence[str], timeout_seconds: float | None = None) -> str:
    """Run DVC in a subprocess, since in-process it changes the working directory and keeps global state.

    Raises UserError with DVC's own message, UnavailableError where it takes longer than `timeout_seconds`.
    """
    site_cache = make_site_cache(root)
    environment = {"DVC_SITE_CACHE_DIR": str(site_cache)} | os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    description = f"`dvc {' '.join(arguments)}` in {root}"
    try:
        finished = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as problem:
        raise UnavailableError(f"{description} did not finish within {timeout_seconds:g} s") from problem
    if finished.returncode != 0:
        message = " ".join((finished.stderr or finished.stdout).split())
        raise UserError(f"{description} failed: {message}")
    return finished.stdout


def make_site_cache(root: Path) -> Path:
    """The folder of DVC's indexes, which it loads as pickles: by default /var/tmp/dvc, where any user can write."""
    folder = root.resolve() / STATE / SITE_CACHE
    make_folder(folder)
    close_to_others(folder)
    return folder


def ensure_repository(root: Path) -> None:
    """Make `root` a DVC repository unless it is one: with git where `root` is a git repository, else without.

    The site cache is set for the user's own DVC commands too; one that the user has set stays.
    """
    if not (root / ".dvc").is_dir():
        in_git = (root / ".git").exists()
        run_dvc(root, ["init"] if in_git else ["init", "--no-scm"])
    current, wanted = _dvc_config(root).get("core", "site_cache_dir", fallback=""), make_site_cache(root)
    # A project that was moved still names its earlier place.
    is_ours = not current or Path(current).parts[-2:] == wanted.parts[-2:]
    # DVC cannot write other paths into its configuration.
    if is_ours and current != str(wanted) and str(wanted).isascii():
        run_dvc(root, ["config", "--local", "core.site_cache_dir", str(wanted)])


def check_stages(workspace: Workspace) -> None:
    """Raise UserError where dvc.yaml names a block that params.yaml lacks: DVC would fail only after the work."""
    pipeline, params = workspace.root / "dvc.yaml", workspace.root / "params.yaml"
    if not pipeline.is_file():
        return
    try:
        stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
        keys = [key for stage in stages.values() for key in stage.get("params", ()) if isinstance(key, str)]
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as problem:
        raise UserError(f"{pipeline} holds no stages that DVC can read: {summarize_error(problem)}") from problem
    blocks = {key.split(".")[0] for key in keys}
    missing = sorted(blocks - set(yaml.safe_load(params.read_text(encoding="utf-8")) or {}))
    if missing:
        message = f"{params} has no block {', '.join(missing)}, which dvc.yaml names"
        raise UserError(f"{message}: add it (`{missing[0]}: {{}}` takes the defaults)")


def commit_stages(workspace: Workspace, stages: Sequence[str]) -> None:
    """Record in dvc.lock what the stages' artifacts were built from, so that `dvc status` calls them up to date."""
    if stages and (workspace.root / "dvc.yaml").is_file():
        run_dvc(workspace.root, ["commit", "--force", *stages])


def recorded_hash(folder: Path) -> str | None:
    """The hash in the pointer file that DVC wrote for `folder`; None where DVC has not versioned it yet."""
    pointer = folder.with_name(folder.name + ".dvc")
    if not pointer.is_file():
        return None
    try:
        return str(yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError) as problem:
        hint = "fix it, or remove it and Ragtide writes a new one"
        raise UserError(f"{pointer} is not a pointer file that DVC wrote: {hint}") from problem


def read_earlier_file(workspace: Workspace, digest: str) -> bytes | None:
    """A file of an earlier snapshot by its MD5, from DVC's cache; None where the cache does not hold it whole.

    Source of the layout: dvc_data.hashfile.db.local, dvc.cachemgr.
    """
    path = _cache_folder(workspace.root) / "files" / "md5" / digest[:2] / digest[2:]
    with suppress(UserError):
        return read_verified(path, digest)
    return None


def _cache_folder(root: Path) -> Path:
    """The folder of DVC's cache; a relative path in DVC's configuration is relative to that file."""
    return root / ".dvc" / _dvc_config(root).get("cache", "dir", fallback="cache")


def _dvc_config(root: Path) -> ConfigParser:
    """The repository's DVC configuration, that of this machine included."""
    config = ConfigParser(interpolation=None)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (UnicodeDecodeError, ConfigParserError) as problem:
        path = root / ".dvc" / "config"
        raise UserError(f"{path} is not a valid DVC configuration: {summarize_error(problem)}") from problem
    return config
