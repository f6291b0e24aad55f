"""Do git's commands ask for a run, once and afterwards, and does nothing else of the hooks change?"""

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
def asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Python's place is taken by a script that notes how it was called, and fails as where no server answers."""
    log, script = project / ".git" / "asked", project / ".git" / "python"
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


def test_a_commit_asks_once_says_in_a_line_what_is_wrong_and_succeeds(
    project: Path, asked: Callable[[], list[str]]
) -> None:
    install_hooks(project)
    assert "ragtide: no server\n" in commit(project, "one")
    assert asked() == [f"-m ragtide.flows.cli.main trigger --source hook --if-moved --project {project}"]


def test_a_merge_and_a_checkout_ask(project: Path, asked: Callable[[], list[str]]) -> None:
    commit(project, "one")
    git(project, "branch", "other")
    commit(project, "two")
    install_hooks(project)
    git(project, "checkout", "other")
    assert len(asked()) == 1
    git(project, "merge", "main")
    assert len(asked()) == 2


def test_a_rebase_of_many_commits_asks_once_at_its_end(project: Path, asked: Callable[[], list[str]]) -> None:
    commit(project, "base")
    git(project, "checkout", "-b", "other")
    commit(project, "one")
    commit(project, "two")
    git(project, "checkout", "main")
    commit(project, "three")
    git(project, "checkout", "other")
    install_hooks(project)
    git(project, "rebase", "main")
    assert len(asked()) == 1


def test_an_amended_commit_asks_once(project: Path, asked: Callable[[], list[str]]) -> None:
    commit(project, "one")
    install_hooks(project)
    git(project, "commit", "--amend", "--allow-empty", "--message", "again")
    assert len(asked()) == 1


def test_what_a_hook_did_before_is_done_first_and_its_end_is_kept(
    project: Path, asked: Callable[[], list[str]]
) -> None:
    commit(project, "one")
    hook(project, "post-checkout", '#!/bin/sh\necho "other $1" >>.git/asked\nexec false\n')
    install_hooks(project)
    with pytest.raises(subprocess.CalledProcessError):  # As without the block: post-checkout's status is git's.
        git(project, "checkout", "-b", "other")
    head = git(project, "rev-parse", "HEAD").stdout.strip()
    assert asked() == [
        f"other {head}",
        f"-m ragtide.flows.cli.main trigger --source hook --if-moved --project {project}",
    ]


def test_install_is_idempotent_and_uninstall_takes_out_just_that(project: Path) -> None:
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
        ("#!/usr/bin/env python3\nprint()\n", 0o755, "is no shell script"),
        ("echo\n", 0o755, "is no shell script"),
        ("#!/bin/sh\n", 0o644, "is not executable"),
    ],
)
def test_a_hook_that_a_block_cannot_go_into_is_refused_and_none_is_written(
    project: Path, content: str, mode: int, why: str
) -> None:
    other = hook(project, "post-rewrite", content, mode)
    with pytest.raises(UserError, match=why):
        install_hooks(project)
    assert other.read_text(encoding="utf-8") == content
    assert not (project / ".git" / "hooks" / "post-commit").exists()


def test_hooks_that_others_share_are_refused(project: Path, tmp_path: Path) -> None:
    git(project, "config", "core.hooksPath", str(tmp_path / "shared"))
    with pytest.raises(UserError, match="which other repositories or people may share"):
        install_hooks(project)
    assert not (tmp_path / "shared").exists()


def test_a_project_in_no_repository_is_refused(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    with pytest.raises(UserError, match="is in no git repository"):
        install_hooks(root)


def test_the_block_calls_the_python_that_wrote_it(project: Path) -> None:
    install_hooks(project)
    assert sys.executable in (project / ".git" / "hooks" / "post-merge").read_text(encoding="utf-8")
