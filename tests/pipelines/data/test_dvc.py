"""Tests of the DVC calls: stages, pointer files, error messages and reads from the cache."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ragtide.pipelines.data import dvc
from ragtide.pipelines.data.dvc import check_stages, commit_stages, ensure_repository, run_dvc
from ragtide.pipelines.data.dvc_cache import read_earlier_file
from ragtide.pipelines.data.snapshot import (
    record_snapshot,
    take_snapshot,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, workspace, write
from tests.pipelines.data.folders import put, tree

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\nouts:\n=======\n", "outs: []\n", "wdir: .\n"])
def test_an_invalid_pointer_file_is_named_and_kept(content: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / "data/kb.dvc", content)
    with pytest.raises(UserError, match=r"data/kb\.dvc is not a pointer file"):
        record_snapshot(project)
    assert (tmp_path / "data/kb.dvc").read_text(encoding="utf-8") == content


def test_dvcs_own_message_is_passed_on_when_recording_fails(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", ".dvcignore": "*.tmp"})
    with pytest.raises(UserError, match="dvcignore"):
        record_snapshot(project)


def test_dvcs_error_message_becomes_one_line(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    ensure_repository(project.root)
    with pytest.raises(UserError) as error:
        run_dvc(project.root, ["add", "data/nothing"])
    assert f"`dvc add data/nothing` in {project.root}" in str(error.value)
    assert "'data/nothing' does not exist" in str(error.value)
    assert "\n" not in str(error.value)


def test_run_dvc_returns_the_output(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    ensure_repository(project.root)
    assert run_dvc(project.root, ["root"]).strip() == "."


def with_stages(root: Path, stages: str | None, params: str = "index: {}\nscore: {}\n") -> Workspace:
    project = workspace(root)
    write(root / "params.yaml", params)
    if stages is not None:
        write(root / "dvc.yaml", stages)
    return project


@pytest.mark.parametrize(
    "stages",
    [
        None,
        "stages: {}",
        "stages: {one: {cmd: x}}",
        "stages: {one: {cmd: x, params: [index]}, two: {cmd: y, params: [index, score]}}",
        "stages: {one: {cmd: x, params: [index, {other.yaml: [block]}]}}",
    ],
    ids=["no file", "no stages", "no params", "blocks that are there", "another file"],
)
def test_stages_that_name_existing_blocks_pass(stages: str | None, tmp_path: Path) -> None:
    project = with_stages(tmp_path, stages)
    before = tree(tmp_path)
    check_stages(project)
    assert tree(tmp_path) == before


def test_the_stages_of_a_new_project_name_existing_blocks() -> None:
    project = Workspace.open(ROOT)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert any(stage.get("params") for stage in stages.values())
    check_stages(project)


@pytest.mark.parametrize(
    ("params", "missing"),
    [("index: {}\n", "score"), ("score: {}\n", "index"), ("", "index, score"), ("chunk: {}\n", "index, score")],
)
def test_a_block_that_params_yaml_lacks_is_an_error(params: str, missing: str, tmp_path: Path) -> None:
    project = with_stages(tmp_path, "stages: {one: {params: [score, index]}, two: {params: [index]}}", params)
    first = missing.split(",", maxsplit=1)[0]
    with pytest.raises(UserError) as error:
        check_stages(project)
    assert f"{tmp_path / 'params.yaml'} has no block {missing}, " in str(error.value)
    assert f"`{first}: {{}}`" in str(error.value)


@pytest.mark.parametrize("stages", ["stages: [one]", "stages: {one: 3}", "stages: {", "- stages"])
def test_an_invalid_dvc_yaml_is_named(stages: str, tmp_path: Path) -> None:
    project = with_stages(tmp_path, stages)
    with pytest.raises(UserError, match=r"dvc\.yaml holds no stages") as error:
        check_stages(project)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stages", [[], ["index"]], ids=["no stages", "no dvc.yaml"])
def test_without_stages_there_is_nothing_to_commit(stages: list[str], tmp_path: Path) -> None:
    project = with_stages(tmp_path, None if stages else "stages: {}")
    before = tree(tmp_path)
    commit_stages(project, stages)
    assert tree(tmp_path) == before


def test_a_committed_stage_is_up_to_date(tmp_path: Path) -> None:
    stage = "stages: {index: {cmd: build, deps: [data/kb], params: [index], outs: [{made.txt: {cache: false}}]}}"
    project = with_stages(tmp_path, stage)
    put(project.kb, {"a.md": "a"})
    record_snapshot(project)
    write(tmp_path / "made.txt", "made")
    commit_stages(project, ["index"])
    assert "up to date" in run_dvc(tmp_path, ["status"])
    locked = yaml.safe_load((tmp_path / "dvc.lock").read_text(encoding="utf-8"))["stages"]["index"]
    assert [dep["md5"] for dep in locked["deps"]] == [take_snapshot(project).kb_id]


def test_a_file_of_an_earlier_snapshot_is_read_from_dvcs_cache(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "as it was"})
    before = record_snapshot(project).documents["a.md"]
    put(project.kb, {"a.md": "as it is"})
    record_snapshot(project)
    assert read_earlier_file(project, before) == b"as it was"
    assert read_earlier_file(project, md5("never seen")) is None


def test_the_cache_folder_of_dvcs_configuration_is_used(tmp_path: Path) -> None:
    project = workspace(tmp_path / "project")
    ensure_repository(project.root)
    run_dvc(project.root, ["cache", "dir", str(tmp_path / "shared")])
    put(project.kb, {"a.md": "as it was"})
    digest = record_snapshot(project).documents["a.md"]
    assert list((tmp_path / "shared").rglob(digest[2:]))
    assert read_earlier_file(project, digest) == b"as it was"


def test_a_damaged_file_in_the_cache_counts_as_missing(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "as it was"})
    digest = record_snapshot(project).documents["a.md"]
    [kept] = project.root.glob(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")
    kept.chmod(0o644)
    kept.write_text("another", encoding="utf-8")
    assert read_earlier_file(project, digest) is None


# --- locks and damaged working files ---------------------------------------------------------------------------------


@contextmanager
def other_dvc(root: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that looks like DVC at work in `root` and holds what `code` takes."""
    script = write(root / "other" / "dvc", f"import time\n{code}\nprint('held', flush=True)\ntime.sleep(99)")
    holder = subprocess.Popen([sys.executable, script, "push"], cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


HELD = {
    "lock": "import zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/lock')",
    "rwlock": (
        "import json, os; json.dump({'write': {os.getcwd() + '/data/kb': {'pid': os.getpid(), 'cmd': 'dvc push'}}},"
        " open('.dvc/tmp/rwlock', 'w'))"
    ),
}


@pytest.fixture
def versioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A project with one versioned document and one that is not; DVC is tried again at once."""
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    record_snapshot(project)
    put(project.kb, {"b.md": "b"})
    monkeypatch.setattr(dvc, "LONGEST_PAUSE_SECONDS", 0.01)
    return project


@pytest.mark.parametrize("held", ["lock", "rwlock"])
def test_a_held_lock_is_waited_for(held: str, versioned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []
    once = dvc._run_dvc_once
    with other_dvc(versioned.root, HELD[held]) as holder:

        def attempt(*arguments: Any) -> str:
            try:
                return once(*arguments)
            except dvc.DvcBusyError as problem:
                attempts.append(str(problem))
                holder.kill()
                holder.wait()
                raise

        monkeypatch.setattr(dvc, "_run_dvc_once", attempt)
        snapshot = record_snapshot(versioned)
    assert set(snapshot.documents) == {"a.md", "b.md"}
    [busy] = attempts
    assert f"process {holder.pid} (`dvc push`)" in busy


def test_a_lock_that_stays_held_is_an_error_that_names_the_stopped_holder(
    versioned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "BUSY_SECONDS", 0.0)
    with other_dvc(versioned.root, HELD["rwlock"]) as holder:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(dvc.DvcBusyError) as error:
            record_snapshot(versioned)
    assert f"process {holder.pid} (`dvc push`, which is stopped)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("said", ["ERROR: unexpected error - database is locked\n\nHaving any troubles? Hit us up"])
def test_a_locked_database_is_a_passing_fault_in_our_words(
    said: str, versioned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC itself waits a minute for its databases, so its answer is given here."""
    answers = iter(
        [subprocess.CompletedProcess("dvc", 255, "", said), subprocess.CompletedProcess("dvc", 0, "done", "")]
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: next(answers))
    assert run_dvc(versioned.root, ["add", "data/kb"]) == "done"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess("dvc", 255, "", said))
    monkeypatch.setattr(dvc, "BUSY_SECONDS", 0.0)
    with pytest.raises(dvc.DvcBusyError) as error:
        run_dvc(versioned.root, ["add", "data/kb"])
    assert "Having any troubles" not in str(error.value)


def test_damaged_working_files_of_dvc_are_named_and_can_be_made_again(versioned: Workspace) -> None:
    assert dvc.damaged_state_files(versioned.root) == []
    locks = versioned.root / ".dvc/tmp/rwlock"
    databases = sorted((versioned.state / "dvc").rglob("*.db"))
    assert databases
    for path in [locks, *databases]:
        path.write_bytes(b'{"wr' * 2000)
        assert dvc.damaged_state_files(versioned.root) == [path]
        if path in (locks, databases[0]):
            with pytest.raises(UserError, match="`ragtide verify --repair`"):
                record_snapshot(versioned)
        path.unlink()
    assert set(record_snapshot(versioned).documents) == {"a.md", "b.md"}
