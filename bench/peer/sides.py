"""Commands, environments and result tables of the compared systems: Ragtide and three peers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtide.flows.environment import OFFLINE

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
STOPWATCH = Path(__file__).parent / "stopwatch.py"
RAGTIDE = "Ragtide"
MODULES = {"LangChain": "langchain_index", "LlamaIndex": "llamaindex_pipeline", "CocoIndex": "cocoindex_app"}
# Ragtide sets these by itself. TOKENIZERS_PARALLELISM concerns forking processes: the peers keep their threads.
SILENT = {key: value for key, value in OFFLINE.items() if key != "TOKENIZERS_PARALLELISM"} | {
    "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
    "LANGSMITH_TRACING": "false",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Side:
    """A system that updates an index of `pages` by one command; its table is in the LanceDB at `lance`."""

    name: str
    pages: Path
    lance: Path
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Time, memory and embedded texts of one run; processor time depends less on the machine's other load."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    embedded: int


def ragtide(work: Path) -> Side:
    """Set up Ragtide in a new project."""
    folder = _empty_folder(work / "ragtide")
    executable = str(Path(sys.executable).parent / "ragtide")
    _run_checked([executable, "init", str(folder)])
    command = [executable, "stage", "index", "--project", str(folder)]
    return Side(RAGTIDE, folder / "data/kb", folder / ".ragtide/lance", command)


def peers(work: Path, python: Path) -> list[Side]:
    """Set up the three peers, each with an empty folder of its own."""
    return [_peer(name, module, _empty_folder(work / module), python) for name, module in MODULES.items()]


def _peer(name: str, module: str, folder: Path, python: Path) -> Side:
    pages, state = folder / "pages", folder / "state"
    command = [str(python), "-m", f"bench.peer.{module}", str(pages), str(state)]
    return Side(name, pages, state / "lance", command, SILENT)


def run(side: Side) -> Measured:
    """Run the system's command as a process. Every system ends its output with one line of JSON."""
    target = side.lance.parent.parent / "measured.json"
    printed = _run_checked([sys.executable, "-I", "-S", str(STOPWATCH), str(target), *side.command], side.environment)
    embedded = int(json.loads(printed.strip().splitlines()[-1])["embedded"])
    return Measured(embedded=embedded, **json.loads(target.read_text("utf-8")))


def vectors(side: Side) -> dict[str, Any]:
    """Return the vectors of the system's table by text."""
    import lancedb

    rows = lancedb.connect(side.lance).open_table("chunks").to_arrow()
    return dict(zip(rows["text"].to_pylist(), rows["vector"].to_pylist(), strict=True))


def lowest_cosine(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Return the lowest cosine between two systems' vectors of the same texts; all vectors have length 1."""
    import numpy as np

    left, right = (np.array([vectors[text] for text in ours], np.float64) for vectors in (ours, theirs))
    return float((left * right).sum(axis=1).min())


def make_environment(folder: Path) -> Path:
    """Return the Python of the peers' virtual environment; create it if absent or made from other versions."""
    python, stamp = folder.absolute() / "bin/python", folder / "requirements.sha256"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text("utf-8") == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run_checked([sys.executable, "-m", "venv", str(folder)])
    _run_checked([str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)])
    stamp.write_text(digest, "utf-8")
    return python


def versions() -> dict[str, str]:
    """Return the peers' pinned versions by package."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.absolute()


def _run_checked(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | (environment or {}), check=False)
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if "WARNING" not in line]
        raise SystemExit("\n".join([f"bench.peers: the command failed: {' '.join(command)}", *lines[-15:]]))
    return process.stdout
