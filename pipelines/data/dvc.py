"""All calls of DVC, and its pointer files, locks and working files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import closing, suppress
from pathlib import Path

import tenacity
import yaml

from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.records.base import STATE, close_to_others, make_folder
from ragtide.pipelines.workspace import Workspace

# What DVC says where another process holds one of its locks, which passes; DVC itself waits up to a minute for some.
BUSY = ("unable to acquire lock", "it is being blocked by", "database is locked")
# What DVC says of its own working files, which it can make again.
DAMAGED_STATE = ("file is not a database", "database disk image is malformed", "rwlock-file")
# The folder of DVC's site cache below the project's state.
SITE_CACHE = "dvc"
# How long DVC is tried again while another process holds its locks, with growing pauses of at most LONGEST_PAUSE.
BUSY_SECONDS = 90.0
LONGEST_PAUSE_SECONDS = 10.0
# What DVC prints around an error that it does not expect.
_UNEXPECTED, _ADVERTISEMENT = "ERROR: unexpected error - ", "Having any troubles?"


class DvcBusyError(UserError):
    """Another process holds one of DVC's locks, which usually passes."""


def run_dvc(root: Path, arguments: Sequence[str], timeout_seconds: float | None = None) -> str:
    """Run DVC in a subprocess, since in-process it changes the working directory and keeps global state.

    While another process holds DVC's locks, it is tried again for BUSY_SECONDS. Raises UserError with DVC's own
    message, DvcBusyError that names the holders, UnavailableError where it takes longer than `timeout_seconds`.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(DvcBusyError),
        wait=tenacity.wait_random_exponential(max=LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(BUSY_SECONDS),
        reraise=True,
    )
    return retrying(_run_dvc_once, root, arguments, timeout_seconds)


def _run_dvc_once(root: Path, arguments: Sequence[str], timeout_seconds: float | None) -> str:
    environment = {"DVC_SITE_CACHE_DIR": str(make_site_cache(root))} | os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    description = f"`dvc {' '.join(arguments)}` in {root}"
    try:
        finished = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as problem:
        raise UnavailableError(f"{description} did not finish within {timeout_seconds:g} s") from problem
    if finished.returncode != 0:
        message = " ".join((finished.stderr or finished.stdout).partition(_ADVERTISEMENT)[0].split())
        raise _dvc_error(root, description, message.removeprefix(_UNEXPECTED))
    return finished.stdout


def make_site_cache(root: Path) -> Path:
    """The folder of DVC's indexes, which it loads as pickles: by default /var/tmp/dvc, where any user can write."""
    folder = root.resolve() / STATE / SITE_CACHE
    make_folder(folder)
    close_to_others(folder)
    return folder


def _dvc_error(root: Path, description: str, message: str) -> UserError:
    """The error for a failed call of DVC, by what DVC said."""
    lowered = message.lower()
    if any(text in lowered for text in BUSY):
        processes = ", ".join(_dvc_processes(root)) or "a process of another user or machine"
        return DvcBusyError(
            f"{description} failed: DVC's lock is held by {processes}: wait until it has ended, or end it, "
            "and run the command again"
        )
    if any(text in lowered for text in DAMAGED_STATE):
        return UserError(
            f"{description} failed: DVC's working files are damaged ({message}): `ragtide verify --repair` deletes "
            "them, and DVC makes them again"
        )
    return UserError(f"{description} failed: {message}")


def _dvc_processes(root: Path) -> Iterator[str]:
    """The living DVC processes in `root`, with what they do."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            command = process.cmdline()
            names = [Path(word).name for word in command[:3]]
            if "dvc" in names and process.pid != os.getpid() and Path(process.cwd()) == root.resolve():
                arguments = " ".join(command[names.index("dvc") + 1 :])
                stopped = ", which is stopped" if process.status() == psutil.STATUS_STOPPED else ""
                yield f"process {process.pid} (`dvc {arguments}`{stopped})"


def damaged_state_files(root: Path) -> list[Path]:
    """DVC's working files that cannot be read: its table of locks and its databases of hashes, which are caches."""
    locks = root / ".dvc" / "tmp" / "rwlock"
    databases = sorted(Path(os.environ.get("DVC_SITE_CACHE_DIR", root / STATE / SITE_CACHE)).rglob("*.db"))
    return [*([locks] if _is_invalid_json(locks) else []), *(path for path in databases if database_damage(path))]


def _is_invalid_json(path: Path) -> bool:
    try:
        return path.is_file() and not isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return True


def database_damage(path: Path) -> str | None:
    """What SQLite finds wrong with a database file, in one line; None for a sound or missing one.

    A database that another process has locked counts as sound.
    """
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            [result] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as problem:
        return None if "locked" in str(problem) or "readonly" in str(problem) else str(problem)
    except sqlite3.Error as problem:
        return str(problem)
    return None if result == "ok" else " ".join(str(result).split())


def ensure_repository(root: Path) -> None:
    """Make `root` a DVC repository unless it is one: with git where `root` is a git repository, else without.

    The site cache is set for the user's own DVC commands too; one that the user has set stays.
    """
    if not (root / ".dvc").is_dir():
        in_git = (root / ".git").exists()
        run_dvc(root, ["init"] if in_git else ["init", "--no-scm"])
    current, wanted = read_dvc_config(root).get("core", "site_cache_dir", fallback=""), make_site_cache(root)
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


def read_dvc_config(root: Path) -> ConfigParser:
    """The repository's DVC configuration, that of this machine included."""
    config = ConfigParser(interpolation=None)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (UnicodeDecodeError, ConfigParserError) as problem:
        path = root / ".dvc" / "config"
        raise UserError(f"{path} is not a valid DVC configuration: {summarize_error(problem)}") from problem
    return config
