"""Test of what a run leaves behind: everything is in the project or the user's folders, and closed to other users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.factories import write

ROOT = Path(__file__).parent.parent
PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}
# Records every path that Python opens for writing or creates, in this process and its children.
RECORDER = """
import os, sys
_log = os.open(os.environ["WRITTEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _record(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    elif event in ("os.mkdir", "sqlite3.connect", "os.rename", "os.link", "os.symlink"):
        path, writes = arguments[1 if event in ("os.rename", "os.link", "os.symlink") else 0], True
    else:
        return
    if writes and isinstance(path, (str, bytes, os.PathLike)):
        os.write(_log, os.fsencode(os.path.abspath(os.fspath(path))) + b"\\n")
sys.addaudithook(_record)
"""


@pytest.mark.timeout(600)
def test_a_run_writes_in_the_project_and_in_the_users_folders_alone(tmp_path: Path) -> None:
    root, home, temporary = tmp_path / "project", tmp_path / "home", tmp_path / "temporary"
    write_project(root)
    for folder in (home, temporary):
        folder.mkdir()
    write(root / "data/kb/pump.md", PAGE)
    write(root / "data/golden/questions.jsonl", json.dumps(GOLDEN) + "\n")
    write(tmp_path / "site/sitecustomize.py", RECORDER)
    site_cache = Path("/var/tmp/dvc")
    before = _entries(site_cache)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}",
        "WRITTEN": str(tmp_path / "written.txt"),
        "PYTHONDONTWRITEBYTECODE": "1",
        # The user's own DVC command would leave a file for its telemetry.
        "DVC_NO_ANALYTICS": "1",
    }
    for command in (["ragtide", "run"], ["ragtide", "ask", "When?"], ["dvc", "status"]):
        finished = subprocess.run(
            [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
    own = (root, home, temporary, Path("/dev"), Path("/proc"), tmp_path / "written.txt")
    written = {Path(line) for line in (tmp_path / "written.txt").read_text(encoding="utf-8").splitlines()}
    assert root / ".ragtide" in written
    assert not sorted(str(path) for path in written if not any(path.is_relative_to(folder) for folder in own))
    assert list(temporary.iterdir()) == []
    assert _entries(site_cache) == before
    assert (root / ".ragtide/dvc").is_dir()
    for folder in (root / ".ragtide", root / ".ragtide/dvc"):
        assert folder.stat().st_mode & 0o077 == 0, folder
    # Nobody but the user can write outside of that folder, which others cannot enter.
    open_to_others = [path for path in root.rglob("*") if ".ragtide" not in path.parts and _others_write(path)]
    assert not open_to_others


def _entries(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*")) if folder.is_dir() else []


def _others_write(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & 0o022)


def test_the_state_of_an_earlier_version_is_closed_when_the_project_is_opened(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    (root / ".ragtide").mkdir(mode=0o755)
    (root / ".ragtide").chmod(0o755)
    Workspace.open(root)
    assert (root / ".ragtide").stat().st_mode & 0o777 == 0o700
