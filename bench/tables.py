"""Markdown tables of the benchmarks, written between two markers in bench/README.md with their provenance."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "peft", "lancedb", "sentence-transformers", "mlflow", "dvc", "prefect")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), ["---"] * len(head), *[list(row) for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_table(name: str, content: str, readme: Path = README) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->` by `content` and its provenance."""
    text = readme.read_text(encoding="utf-8")
    block = f"<!-- {name} -->\n{content}\n\n{provenance()}\n<!-- /{name} -->"
    new, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{readme} must contain the markers of {name!r} exactly once; it contains them {count} times")
    readme.write_text(new, encoding="utf-8")


def update_results(name: str, part: str, fields: Mapping[str, object]) -> None:
    """Set `fields` in results/NAME.json, with the provenance of the script that measured them under `measured.PART`.

    The other fields stay: several scripts write parts of one file.
    """
    path = RESULTS / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    measured = {**content.pop("measured", {}), part: provenance()}
    path.write_text(json.dumps({**content, **fields, "measured": measured}, indent=2) + "\n", encoding="utf-8")


def provenance() -> str:
    """Return command, date, machine and library versions in one line."""
    arguments = [re.sub(r"^(/|\.\.).*", "DATA", argument) for argument in sys.argv[1:]]
    command = " ".join(["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *arguments])
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    machine = f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}"
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}; {libraries}."


def _processor() -> str:
    try:
        model_name = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        model_name = None
    return model_name.group(1) if model_name else platform.processor()
