"""Snapshot files of rendered pages, which keep their prose in view.

With RAGTIDE_UPDATE_SNAPSHOTS=1 a test writes the file instead of comparing with it.
"""

from __future__ import annotations

import os
from pathlib import Path


def assert_snapshot(path: Path, text: str) -> None:
    """Compare `text` with the file, or write it there where snapshots are updated."""
    if os.environ.get("RAGTIDE_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path} differs: RAGTIDE_UPDATE_SNAPSHOTS=1 writes it again"
