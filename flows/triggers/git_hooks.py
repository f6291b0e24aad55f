"""How does git say that data has moved? By a block in its hooks that runs `ragtide trigger` once they are through.

The block stands at the top and has the rest of the hook run first, as a program of its own: a hook of DVC's ends in
`exec`, others in `exit`, and what stands below would never be reached. Git's own command never fails by it.
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
# In the middle of a rebase git calls hooks for every commit; at its end it calls post-rewrite.
BLOCK = """{begin}
if [ -z "${guard}" ]; then
  {guard}=1 "$0" "$@"
  ragtide_status=$?
  case "$0 $1" in
    *post-rewrite\\ rebase) ragtide_asks=1 ;;
    *post-rewrite\\ *) ragtide_asks= ;;
    *) [ -d "$(git rev-parse --git-path rebase-merge)" ] && ragtide_asks= || ragtide_asks=1 ;;
  esac
  [ -n "$ragtide_asks" ] && PREFECT_API_REQUEST_TIMEOUT=10 {command} </dev/null 1>&2
  exit $ragtide_status
fi
{end}
"""


@dataclass(frozen=True)
class HookBlock:
    """What stands in every hook of a project."""

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
        """A hook's content as it was before this block came in."""
        before, found, rest = content.partition(self.begin)
        if not found:
            return content
        if self.end not in rest:
            raise UserError(f"a hook holds the line {self.begin!r} and no {self.end!r}: take the block out by hand")
        return before + rest.partition(f"{self.end}\n")[2]

    def into(self, content: str) -> str:
        """A hook's content with this block below its first line, and once only."""
        first, _, rest = self.without(content).partition("\n")
        return f"{first}\n{self.text}{rest}"


def install_hooks(project: Path) -> list[Path]:
    """Write the block into git's hooks; what stands there stays. Returns the hooks.

    Raises RefusalError, before anything is written, for hooks that a block cannot go into.
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
    """Take the block out again; a hook that held nothing else goes. Returns the hooks that held it."""
    root, folder = project.resolve(), _hooks_folder(project.resolve())
    block, held = HookBlock(root), []
    for hook in (folder / name for name in HOOKS):
        if not hook.is_file() or block.begin not in (content := hook.read_text(encoding="utf-8")):
            continue
        left = block.without(content)
        if left == NEW:
            hook.unlink()
        else:
            hook.write_text(left, encoding="utf-8")
        held.append(hook)
    return held


def _read(hook: Path) -> str:
    """A hook's content. Raises RefusalError for one that a shell does not run, or that git does not."""
    by_hand = "call `ragtide trigger --source hook` in it yourself"
    if hook.is_symlink():
        raise UserError(f"{hook} is a link to a file that others may share: {by_hand}")
    if not hook.exists():
        return NEW
    try:
        content = hook.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"{hook} is no shell script: {by_hand}") from problem
    shebang = content.partition("\n")[0].split()
    if not shebang or not shebang[0].startswith("#!") or Path(shebang[-1]).name not in SHELLS:
        raise UserError(f"{hook} is no shell script: {by_hand}")
    if not os.access(hook, os.X_OK):
        raise UserError(f"{hook} is not executable, so git does not run it: make it so, or move it away")
    return content


def _hooks_folder(root: Path) -> Path:
    """Where git looks for this repository's hooks, and for no other's."""
    folder, common = (_git(root, *ask) for ask in (("--git-path", "hooks"), ("--git-common-dir",)))
    if not folder.is_relative_to(common):
        shared = f"git's core.hooksPath names {folder}, which other repositories or people may share"
        raise UserError(f"{shared}: call `ragtide trigger --source hook` there yourself")
    return folder


def _git(root: Path, *ask: str) -> Path:
    command = ["git", "rev-parse", *ask]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise UserError(f"{root} is in no git repository: `git init` makes one; hooks are git's") from problem
    return (root / done.stdout.strip()).resolve()
