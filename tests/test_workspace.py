"""Tests of the write lock across processes, and of paths that settings change."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace

ROOT = Path(__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from ragtide.pipelines.params import Params
from ragtide.pipelines.workspace import Workspace
with Workspace(Path(sys.argv[1]), Params()).write_lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_fails_at_once(tmp_path: Path) -> None:
    with (
        workspace(tmp_path).write_lock(),
        pytest.raises(UserError, match="another run is at work in"),
        workspace(tmp_path).write_lock(),
    ):
        pytest.fail("two writers at once")


def test_the_next_writer_can_start_after_the_first(tmp_path: Path) -> None:
    entered = []
    for name in ("first", "second"):
        with workspace(tmp_path).write_lock():
            entered.append(name)
    assert entered == ["first", "second"]


def test_a_failing_writer_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), workspace(tmp_path).write_lock():
        raise ZeroDivisionError
    with workspace(tmp_path).write_lock():
        assert (tmp_path / ".ragtide").is_dir()


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run"), workspace(tmp_path).write_lock():
            pytest.fail("two writers at once")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with workspace(tmp_path).write_lock():
        assert (tmp_path / ".ragtide").is_dir()


def test_two_projects_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with workspace(tmp_path / "one").write_lock(), workspace(tmp_path / "two").write_lock():
        assert (tmp_path / "two" / ".ragtide" / "writer.lock").exists()


def test_a_folder_without_params_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing"):
        Workspace.open(tmp_path)


def test_a_project_can_be_opened_by_a_path_with_dots(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: {kb: pages}\n", encoding="utf-8")
    (tmp_path / "deep").mkdir()
    opened = Workspace.open(tmp_path / "deep" / "..")
    assert opened.root == tmp_path.resolve()
    assert opened.kb == tmp_path.resolve() / "pages"


def test_state_is_in_the_project_by_default(tmp_path: Path) -> None:
    default = workspace(tmp_path)
    assert default.index_uri == str(tmp_path / ".ragtide" / "lance")
    assert default.tracking_uri == f"sqlite:///{tmp_path / '.ragtide' / 'mlflow.db'}"
    elsewhere = workspace(tmp_path, index={"uri": "s3://here/lance"}, registry={"tracking_uri": "http://mlflow"})
    assert (elsewhere.index_uri, elsewhere.tracking_uri) == ("s3://here/lance", "http://mlflow")


def test_reading_paths_creates_no_folder(tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    project = Workspace(tmp_path, workspace(tmp_path / "other").params)
    assert project.snapshot_file("x").name == "x.json"
    assert project.plan_file("y").parent.name == "plans"
    assert set(tmp_path.rglob("*")) - before == set((tmp_path / "other").rglob("*")) | {tmp_path / "other"}
