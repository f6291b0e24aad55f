"""A hundred hostile documents beside honest ones: the index must be built, in bounded time, with every honest document.

Also what reading in processes costs honest documents, compared with reading in this process, and how computing time
grows with the length of text for every pattern and loop that reads document text.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from bench.growth import (
    LOOP_SIZES,
    PATTERN_SIZES,
    READING_FUNCTIONS,
    growth_exponent,
    hostile_texts,
    used_patterns,
)
from bench.hostile_files import hostile_files
from bench.tables import update_results
from ragtide.pipelines.build import open_index
from ragtide.pipelines.data.documents import DocumentReader, read_quarantine
from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.hashing import read_verified
from ragtide.pipelines.data.reading.pool import reading_pool
from ragtide.pipelines.data.reading.sections import cut_text
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.stages import run_stage
from ragtide.pipelines.workspace import Workspace

SECONDS, MEMORY_MB = 3, 400
HONEST = 60
ROUNDS = 5
# The build counts as hung after so many times the bound: deadlines are computing time, and a machine may be busy.
LIMIT = 6
PARAMS = f"""
data: {{document_seconds: {SECONDS}, document_memory_mb: {MEMORY_MB}, max_attempts: 1}}
embed: {{model: "tests.fakes:CountingEmbedder"}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real honest documents, if present")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--parts", nargs="+", choices=("build", "honest", "growth"), default=("build", "honest", "growth")
    )
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        run_stage("index", arguments.build, no_progress)
        return
    with TemporaryDirectory() as folder:
        measures: dict[str, Callable[[], dict[str, object]]] = {
            "build": lambda: build_beside_hostile(Path(folder) / "hostile", arguments.data),
            "honest": lambda: compare_honest(Path(folder) / "honest", arguments.data, arguments.rounds),
            "growth": measure_growth,
        }
        for part in arguments.parts:
            fields = measures[part]()
            update_results("safe", f"hostile, {part}", fields)
            print(json.dumps(fields, indent=2), flush=True)


def honest_files(data: Path) -> dict[str, bytes]:
    """Real documents where `data` is present, else generated pages."""
    pages = [
        *sorted((data / "django_docs/snapshot_00").rglob("*.txt")),
        *sorted((data / "eol/snapshot_20/kb").glob("*.md")),
    ]
    if pages:
        return {f"honest/{number}{page.suffix}": page.read_bytes() for number, page in enumerate(pages)}
    print(f"{data} is absent: honest documents are generated")
    text = "".join(f"## Part {part}\n\n{'The pump of part number seven runs. ' * 40}\n\n" for part in range(20))
    return {f"honest/{number}.md": f"# Page {number}\n\n{text}".encode() for number in range(300)}


def project(root: Path, files: dict[str, bytes]) -> Workspace:
    for name, content in files.items():
        path = root / "data/kb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for folder in ("train", "golden"):
        (root / "data" / folder).mkdir()
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return Workspace.open(root)


def build_beside_hostile(root: Path, data: Path) -> dict[str, object]:
    """Build an index of hostile and honest documents with `ragtide stage index`, and look for each of them."""
    honest = dict(list(honest_files(data).items())[:: max(1, len(honest_files(data)) // HONEST)])
    hostile = {f"hostile/{name}": content for name, content in hostile_files()}
    workspace = project(root, {**honest, **hostile})
    bound = len(hostile) * SECONDS / reading_pool().size
    started = time.monotonic()
    try:
        subprocess.run([sys.executable, "-m", "bench.hostile", "--build", str(root)], timeout=LIMIT * bound, check=True)
        is_hung = False
    except subprocess.TimeoutExpired:
        is_hung = True
    seconds = time.monotonic() - started
    listed = {document.document: document.reason for document in read_quarantine(workspace).documents}
    index = open_index(workspace, load_embedder(workspace.params.embed))
    indexed = set(index.documents())
    unlisted = hostile.keys() - listed.keys() - indexed
    for name in sorted(hostile):
        print(f"{name}: {listed.get(name, 'indexed' if name in indexed else 'UNLISTED')}")
    return {
        "hostile_documents": len(hostile),
        "hostile_quarantined": len(hostile.keys() & listed.keys()),
        "hostile_indexed": len(hostile.keys() & indexed),
        "hung": len(unlisted) if is_hung else 0,
        "unlisted": len(unlisted),
        "honest_documents": len(honest),
        "honest_indexed": len(honest.keys() & indexed),
        "hostile_build_seconds": round(seconds, 1),
        "hostile_build_bound_seconds": round(bound, 1),
        "machine_load": round(os.getloadavg()[1], 1),
    }


def compare_honest(root: Path, data: Path, rounds: int) -> dict[str, object]:
    """Wall and computing time of reading honest documents in processes, as shares of reading them in this process.

    Rounds alternate; each reads every document without cached texts. The processes are warm, as they are after the
    first documents.
    """
    workspace = project(root, honest_files(data))
    sides = {"processes": read_in_processes, "here": read_here}
    for read in sides.values():
        read(workspace)
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(rounds):
        spent = {name: _spent(read, workspace) for name, read in sides.items()}
        for at, kind in enumerate(ratios):
            ratios[kind].append(spent["processes"][at] / spent["here"][at])
    return {
        "honest_wall_ratio": round(median(ratios["wall"]), 3),
        "honest_cpu_ratio": round(median(ratios["cpu"]), 3),
        "honest_compared": len(take_snapshot(workspace).documents),
        "honest_rounds": rounds,
    }


def read_in_processes(workspace: Workspace) -> int:
    library = DocumentReader(workspace, take_snapshot(workspace))
    return sum(len(read.pieces) for _, read in library.read(sorted(library.due)) if read)


def read_here(workspace: Workspace) -> int:
    pieces = 0
    for name, digest in sorted(take_snapshot(workspace).documents.items()):
        text = convert_document(name, read_verified(workspace.kb / name, digest))
        pieces += len(list(cut_text(name, text, workspace.params.chunk.max_words)))
    return pieces


def _spent(read: Callable[[Workspace], int], workspace: Workspace) -> tuple[float, float]:
    """(wall, computing) seconds; computing time is that of this process and its children."""
    shutil.rmtree(workspace.texts, ignore_errors=True)
    wall, cpu = time.monotonic(), _cpu_seconds()
    read(workspace)
    return time.monotonic() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def measure_growth() -> dict[str, object]:
    """The largest exponent of computing time in the length of text, of all patterns and loops."""
    patterns = [
        (*growth_exponent(used.apply, hostile_texts(used.pattern), PATTERN_SIZES), used.name)
        for used in used_patterns()[0]
    ]
    loops = [(*growth_exponent(read, hostile_texts(), LOOP_SIZES), name) for name, read in READING_FUNCTIONS.items()]
    exponent, text, name = max(patterns + loops)
    print(f"largest exponent {exponent:.2f}: {name} on {text}")
    return {
        "worst_growth_exponent": round(exponent, 2),
        "patterns_measured": len(patterns),
        "loops_measured": len(loops),
    }


if __name__ == "__main__":
    main()
