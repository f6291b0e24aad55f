"""Helpers of the tests of the command line: run a command, fill a project, read its tables."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project

MakeProject = Callable[..., Path]
PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}


def ragtide(*arguments: str) -> tuple[int, str, str]:
    """Run a command: exit code, stdout, stderr."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def at(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command on the project at `root`."""
    return ragtide(*arguments, "--project", str(root))


def document(root: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON document that a command prints with --json; stdout holds nothing else."""
    ended, stdout, stderr = at(root, *arguments, "--json")
    assert ended == code, stderr
    content: dict[str, Any] = json.loads(stdout)
    return content


def errors(stderr: str) -> list[str]:
    """The lines of stderr in which Ragtide reports an error, without progress."""
    return [line for line in stderr.splitlines() if line.startswith("ragtide: ")]


def fill(root: Path, page: str = PAGE, golden: object = GOLDEN) -> Path:
    (root / "data/kb/pump.md").write_text(page, encoding="utf-8")
    (root / "data/golden/questions.jsonl").write_text(json.dumps(golden) + "\n", encoding="utf-8")
    return root


def add_examples(root: Path, *rows: object) -> Path:
    """Write training examples; a string is written as it is."""
    content = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (root / "data/train/lines.jsonl").write_text(content, encoding="utf-8")
    return root


def on_invalid(root: Path, action: str, contradictions: str = "filter") -> None:
    """Set what happens to invalid training examples, and to those that contradict each other."""
    path, block = root / "params.yaml", {"on_invalid": action, "contradictions": contradictions}
    path.write_text(f"{path.read_text(encoding='utf-8')}\nexamples: {json.dumps(block)}\n", encoding="utf-8")


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def plan_digest(root: Path) -> str:
    """The digest of the only plan that was saved."""
    [digest] = [path.stem for path in (root / ".ragtide/plans").iterdir()]
    return digest


def cells(stdout: str) -> list[list[str]]:
    """The rows of every table that is printed."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in stdout.splitlines() if line.startswith("│")]


def index_of(root: Path) -> Index:
    return Project.open(root, no_progress).index


class ProcessReplaced(SystemExit):
    """The command would have replaced the process, or served until stopped."""


def replace_process(*_: object, **__: object) -> None:
    raise ProcessReplaced(0)


def keep_commands_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """End commands where they would replace the process or serve until stopped, and let no request be retried."""
    # One request to a server that is down: Prefect would retry for half a minute.
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setattr(os, "execve", replace_process)
    # Prefect still logs to the output of an earlier command, which is closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    for blocking in (
        "ragtide.flows.triggers.watcher.Watcher.run",
        "uvicorn.Server.run",
        "ragtide.flows.services.supervisor.ServiceStart.first",
    ):
        monkeypatch.setattr(blocking, replace_process)
