"""Git hooks that run `ragtide trigger` after a commit, merge, checkout or rebase.

A block at the top of each hook runs the rest of the hook first, as a separate process: DVC's hooks end in `exec` and
others in `exit`, so a block at the end would never be reached. The block never makes git's own command fail.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import json_digest

HOOKS = ("post-commit", "post-merge", "post-checkout", "post-rewrite")
SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
NEW = "#!/bin/sh\n"
# During a rebase git calls the hooks for every commit; at its end it calls post-rewrite.
BLOCK = """{begin}
if [ -z "${guard}" ]; then
  {guard}=1 "$0" "$@"
  ragtide_status=$?
  case "$0 $1" in
    *post-rewrite\\ rebase) ragtide_triggers=1 ;;
    *post-rewrite\\ *) ragtide_triggers= ;;
    *) [ -d "$(git rev-parse --git-path rebase-merge)" ] && ragtide_triggers= || ragtide_triggers=1 ;;
  esac
  [ -n "$ragtide_triggers" ] && PREFECT_API_REQUEST_TIMEOUT=10 {command} </dev/null 1>&2
  exit $ragtide_status
fi
{end}
"""


@dataclass(frozen=True)
class HookBlock:
    """The block of a project in each of its git hooks."""

    project: Path

    @property
    def begin(self) -> str:
        return f"# ragtide {self.project}: written by `ragtide hooks install`, removed by `ragtide hooks uninstall`"

    @property
    def end(self) -> str:
        return f"# ragtide {self.project}: end"

    @property
    def text(self) -> str:
        command = [sys.executable, "-m", "ragtide", "trigger", "--source", "hook", "--if-moved"]
        command += ["--project", str(self.project)]
        guard = f"RAGTIDE_HOOK_{json_digest(str(self.project))}"
        return BLOCK.format(begin=self.begin, end=self.end, guard=guard, command=shlex.join(command))

    def without(self, content: str) -> str:
        """The content of a hook without this block."""
        before, marker, rest = content.partition(self.begin)
        if not marker:
            return content
        if self.end not in rest:
            raise UserError(f"a git hook has the line {self.begin!r} but no {self.end!r}: remove the block by hand")
        return before + rest.partition(f"{self.end}\n")[2]

    def into(self, content: str) -> str:
        """The content of a hook with this block once, below its first line."""
        first, _, rest = self.without(content).partition("\n")
        return f"{first}\n{self.text}{rest}"


def install_hooks(project: Path) -> list[Path]:
    """Write the block into git's hooks and keep their other content. Returns the hooks.

    Raises UserError, before anything is written, for a hook that is no executable shell script.
    """
    root, folder = project.resolve(), _hooks_folder(project.resolve())
    block, hooks = HookBlock(root), [folder / name for name in HOOKS]
    new = {hook: block.into(_read(hook)) for hook in hooks}
    folder.mkdir(parents=True, exist_ok=True)
    for hook, content in new.items():
        hook.write_text(content, encoding="utf-8")
        hook.chmod(hook.stat().st_mode | 0o755)
    return hooks


def uninstall_hooks(project: Path) -> list[Path]:
    """Remove the block, and hooks that had no other content. Returns the hooks that had it."""
    root, folder = project.resolve(), _hooks_folder(project.resolve())
    block, changed = HookBlock(root), []
    for hook in (folder / name for name in HOOKS):
        if not hook.is_file() or block.begin not in (content := hook.read_text(encoding="utf-8")):
            continue
        remaining = block.without(content)
        if remaining == NEW:
            hook.unlink()
        else:
            hook.write_text(remaining, encoding="utf-8")
        changed.append(hook)
    return changed


def _read(hook: Path) -> str:
    """The content of a hook. Raises UserError unless it is an executable shell script of this repository."""
    by_hand = "add `ragtide trigger --source hook` to it yourself"
    if hook.is_symlink():
        raise UserError(f"{hook} is a link to a file that other repositories may share: {by_hand}")
    if not hook.exists():
        return NEW
    try:
        content = hook.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"{hook} is not a shell script: {by_hand}") from problem
    shebang = content.partition("\n")[0].split()
    if not shebang or not shebang[0].startswith("#!") or Path(shebang[-1]).name not in SHELLS:
        raise UserError(f"{hook} is not a shell script: {by_hand}")
    if not os.access(hook, os.X_OK):
        raise UserError(f"{hook} is not executable, so git does not run it: make it executable or remove it")
    return content


def _hooks_folder(root: Path) -> Path:
    """The folder of this repository's hooks. Raises UserError for a folder that other repositories may share."""
    folder, common = _git_path(root, "--git-path", "hooks"), _git_path(root, "--git-common-dir")
    if not folder.is_relative_to(common):
        problem = f"git's core.hooksPath is {folder}, which other repositories may share"
        raise UserError(f"{problem}: add `ragtide trigger --source hook` to the hooks there yourself")
    return folder


def _git_path(root: Path, *arguments: str) -> Path:
    command = ["git", "rev-parse", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise UserError(
            f"{root} is not in a git repository, so it has no git hooks: `git init` creates one"
        ) from problem
    return (root / done.stdout.strip()).resolve()
