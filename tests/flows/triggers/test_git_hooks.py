"""Tests of the git hooks: one request after each git command, and no other change of the hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ragtide.flows.triggers import git_hooks
from ragtide.flows.triggers.git_hooks import HOOKS, install_hooks, uninstall_hooks
from ragtide.pipelines.errors import UserError

DVC = "#!/usr/bin/sh\nexec dvc git-hook post-checkout $@\n"


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    root = make_project("pro ject's").resolve()
    git(root, "init", "--quiet", "--initial-branch=main")
    for key, value in {"user.name": "n", "user.email": "n@example.org"}.items():
        git(root, "config", key, value)
    return root


@pytest.fixture
def calls(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Replaces Python by a script that records its arguments, and fails as without a server."""
    log, script = project / ".git" / "calls", project / ".git" / "python"
    script.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\necho "ragtide: no server" >&2\nexit 1\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(git_hooks.sys, "executable", str(script))
    return lambda: log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)


def commit(root: Path, message: str) -> str:
    (root / "data" / "kb" / f"{message}.md").write_text(message, encoding="utf-8")
    git(root, "add", "--all")
    return git(root, "commit", "--message", message).stderr


def hook(root: Path, name: str, content: str, mode: int = 0o755) -> Path:
    path = root / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_commit_triggers_once_and_succeeds_although_no_server_answers(
    project: Path, calls: Callable[[], list[str]]
) -> None:
    install_hooks(project)
    assert "ragtide: no server\n" in commit(project, "one")
    assert calls() == [f"-m ragtide trigger --source hook --if-moved --project {project}"]


def test_a_merge_and_a_checkout_trigger(project: Path, calls: Callable[[], list[str]]) -> None:
    commit(project, "one")
    git(project, "branch", "other")
    commit(project, "two")
    install_hooks(project)
    git(project, "checkout", "other")
    assert len(calls()) == 1
    git(project, "merge", "main")
    assert len(calls()) == 2


def test_a_rebase_of_many_commits_triggers_once_at_its_end(project: Path, calls: Callable[[], list[str]]) -> None:
    commit(project, "base")
    git(project, "checkout", "-b", "other")
    commit(project, "one")
    commit(project, "two")
    git(project, "checkout", "main")
    commit(project, "three")
    git(project, "checkout", "other")
    install_hooks(project)
    git(project, "rebase", "main")
    assert len(calls()) == 1


def test_an_amended_commit_triggers_once(project: Path, calls: Callable[[], list[str]]) -> None:
    commit(project, "one")
    install_hooks(project)
    git(project, "commit", "--amend", "--allow-empty", "--message", "again")
    assert len(calls()) == 1


def test_the_rest_of_a_hook_runs_first_and_its_exit_code_is_kept(project: Path, calls: Callable[[], list[str]]) -> None:
    commit(project, "one")
    hook(project, "post-checkout", '#!/bin/sh\necho "other $1" >>.git/calls\nexec false\n')
    install_hooks(project)
    with pytest.raises(
        subprocess.CalledProcessError
    ):  # As without the block: git exits with the status of post-checkout.
        git(project, "checkout", "-b", "other")
    head = git(project, "rev-parse", "HEAD").stdout.strip()
    assert calls() == [
        f"other {head}",
        f"-m ragtide trigger --source hook --if-moved --project {project}",
    ]


def test_install_is_idempotent_and_uninstall_removes_only_the_block(project: Path) -> None:
    other = hook(project, "post-checkout", DVC)
    assert [path.name for path in install_hooks(project)] == list(HOOKS)
    once = other.read_text(encoding="utf-8")
    install_hooks(project)
    assert other.read_text(encoding="utf-8") == once
    assert once.endswith("exec dvc git-hook post-checkout $@\n")
    assert [path.name for path in uninstall_hooks(project)] == list(HOOKS)
    assert other.read_text(encoding="utf-8") == DVC
    assert os.access(other, os.X_OK)
    assert not (project / ".git" / "hooks" / "post-commit").exists()
    assert uninstall_hooks(project) == []


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("#!/usr/bin/env python3\nprint()\n", 0o755, "is not a shell script"),
        ("echo\n", 0o755, "is not a shell script"),
        ("#!/bin/sh\n", 0o644, "is not executable"),
    ],
)
def test_an_unsuitable_hook_is_an_error_and_none_is_written(project: Path, content: str, mode: int, why: str) -> None:
    other = hook(project, "post-rewrite", content, mode)
    with pytest.raises(UserError, match=why):
        install_hooks(project)
    assert other.read_text(encoding="utf-8") == content
    assert not (project / ".git" / "hooks" / "post-commit").exists()


def test_shared_hooks_are_an_error(project: Path, tmp_path: Path) -> None:
    git(project, "config", "core.hooksPath", str(tmp_path / "shared"))
    with pytest.raises(UserError, match=r"core\.hooksPath"):
        install_hooks(project)
    assert not (tmp_path / "shared").exists()


def test_a_project_outside_a_repository_is_an_error(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    with pytest.raises(UserError, match="not in a git repository"):
        install_hooks(root)


def test_the_block_calls_the_python_that_installed_it(project: Path) -> None:
    install_hooks(project)
    assert sys.executable in (project / ".git" / "hooks" / "post-merge").read_text(encoding="utf-8")
