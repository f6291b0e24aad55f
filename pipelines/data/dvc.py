"""Which state is the data in? Snapshots by DVC's own content hash; the only module that calls DVC.

Hashes are computed here in DVC's form, so that `ragtide plan` can look without changing anything; `record` lets DVC
itself version the folders and refuses when the two disagree.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.workspace import Workspace


def ensure_repository(root: Path) -> None:
    """Make `root` a DVC repository where it is none: inside git with it, elsewhere without."""
    if not (root / ".dvc").is_dir():
        in_git = (root / ".git").exists()
        run_dvc(root, ["init"] if in_git else ["init", "--no-scm"])


def check_stages(workspace: Workspace) -> None:
    """Raise RefusalError where dvc.yaml names a block that params.yaml lacks: DVC would say so only after the work."""
    pipeline, params = workspace.root / "dvc.yaml", workspace.root / "params.yaml"
    if not pipeline.is_file():
        return
    try:
        stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
        keys = [key for stage in stages.values() for key in stage.get("params", ()) if isinstance(key, str)]
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as problem:
        raise UserError(f"{pipeline} holds no stages that DVC can read: {summarize_error(problem)}") from problem
    named = {key.split(".")[0] for key in keys}
    missing = sorted(named - set(yaml.safe_load(params.read_text(encoding="utf-8")) or {}))
    if missing:
        where = f"{params} has no block {', '.join(missing)}, which dvc.yaml names"
        raise UserError(f"{where}: put it there (`{missing[0]}: {{}}` takes the defaults)")


def commit_stages(workspace: Workspace, stages: Sequence[str]) -> None:
    """Write into dvc.lock what the stages' artifacts were built from, so that `dvc status` calls them up to date."""
    if stages and (workspace.root / "dvc.yaml").is_file():
        run_dvc(workspace.root, ["commit", "--force", *stages])


def run_dvc(root: Path, arguments: Sequence[str], timeout_seconds: float | None = None) -> str:
    """Run DVC in a process of its own, since in-process it changes folder and keeps global state.

    Raises RefusalError with DVC's own message, UnavailableError where it takes longer than `timeout_seconds`.
    """
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    told = f"`dvc {' '.join(arguments)}` in {root}"
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as problem:
        raise UnavailableError(f"{told} did not end within {timeout_seconds:g} s") from problem
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"{told} failed: {said}")
    return done.stdout
