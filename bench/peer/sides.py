"""How is each side started, and does its index then hold what lies in the folder? Ragtide and three peers."""

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
# Ragtide sets its own. TOKENIZERS_PARALLELISM is for processes that fork: the peers keep their threads.
SILENT = {key: value for key, value in OFFLINE.items() if key != "TOKENIZERS_PARALLELISM"} | {
    "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
    "LANGSMITH_TRACING": "false",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Side:
    """One way to keep an index of `pages` current, run by one command; its table is in the LanceDB at `lance`."""

    name: str
    pages: Path
    lance: Path
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What one run took; processor time is less moved by what else the machine does."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    embedded: int


def ragtide(work: Path) -> Side:
    """Ragtide in a new project."""
    folder = _new(work / "ragtide")
    executable = str(Path(sys.executable).parent / "ragtide")
    _must([executable, "init", str(folder)])
    command = [executable, "stage", "index", "--project", str(folder)]
    return Side(RAGTIDE, folder / "data/kb", folder / ".ragtide/lance", command)


def peers(work: Path, python: Path) -> list[Side]:
    """The three peers, each with an empty folder of its own."""
    return [_peer(name, module, _new(work / module), python) for name, module in MODULES.items()]


def _peer(name: str, module: str, folder: Path, python: Path) -> Side:
    pages, state = folder / "pages", folder / "state"
    command = [str(python), "-m", f"bench.peer.{module}", str(pages), str(state)]
    return Side(name, pages, state / "lance", command, SILENT)


def run(side: Side) -> Measured:
    """The side's command as a whole process. Every side ends its output with one line of JSON."""
    target = side.lance.parent.parent / "measured.json"
    printed = _must([sys.executable, "-I", "-S", str(STOPWATCH), str(target), *side.command], side.environment)
    embedded = int(json.loads(printed.strip().splitlines()[-1])["embedded"])
    return Measured(embedded=embedded, **json.loads(target.read_text("utf-8")))


def vectors(side: Side) -> dict[str, Any]:
    """What the side's table holds: vectors by text."""
    import lancedb

    rows = lancedb.connect(side.lance).open_table("chunks").to_arrow()
    return dict(zip(rows["text"].to_pylist(), rows["vector"].to_pylist(), strict=True))


def lowest_cosine(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """How far the two sides' vectors of the same texts are apart, at most; all have length 1."""
    import numpy as np

    left, right = (np.array([side[text] for text in ours], np.float64) for side in (ours, theirs))
    return float((left * right).sum(axis=1).min())


def make_environment(folder: Path) -> Path:
    """The Python of the peers' virtual environment, made where it is not there or was made from other versions."""
    python, stamp = folder.absolute() / "bin/python", folder / "requirements.sha256"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text("utf-8") == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _must([sys.executable, "-m", "venv", str(folder)])
    _must([str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)])
    stamp.write_text(digest, "utf-8")
    return python


def versions() -> dict[str, str]:
    """The peers' pinned versions by package."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _new(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.absolute()


def _must(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | (environment or {}), check=False)
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if "WARNING" not in line]
        raise SystemExit("\n".join([f"bench.peers: failed: {' '.join(command)}", *lines[-15:]]))
    return ran.stdout
