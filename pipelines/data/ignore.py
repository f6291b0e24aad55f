"""Ignore rules of the data folders: the user's .dvcignore, and the block in it that hides unusable files from DVC."""

from __future__ import annotations

import re
from pathlib import Path

from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.hashing import list_files, unreadable_file, unusable_reason
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.workspace import Workspace

# What DVC always ignores (dvc/ignore.py).
ALWAYS_IGNORED = (".hg/", ".git/", ".git", ".dvc/")
# The first and last line of the block in .dvcignore that hides files which DVC would fail on.
HIDDEN = "# ragtide: files that DVC cannot read; Ragtide rewrites this block"
HIDDEN_END = "# ragtide: end"


def ignore_rules(root: Path) -> GitIgnoreSpec:
    """The user's rules and DVC's own, without Ragtide's block: whether those files are usable is checked each time."""
    return GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *(line.strip() for line in _user_lines(root))])


def hide_unusable_files(workspace: Workspace, snapshot: Snapshot) -> None:
    """Update the block in .dvcignore that hides unusable files from DVC; without any, remove it."""
    rules = workspace.root / ".dvcignore"
    content = rules.read_text(encoding="utf-8") if rules.is_file() else ""
    if not snapshot.unusable and HIDDEN not in content:
        return
    files = list_files(workspace.kb, workspace.root, ignore_rules(workspace.root))
    folder = workspace.kb.resolve()
    unusable = {path for path in files if unusable_reason(workspace.kb / path, folder)}
    block = _hiding_block(workspace.kb.relative_to(workspace.root).as_posix(), files, unusable)
    own = [line for line in ["\n".join(_user_lines(workspace.root)).rstrip("\n")] if line]
    wanted = "".join(f"{line}\n" for line in [*own, *block])
    if wanted != content:
        rules.write_text(wanted, encoding="utf-8")


def _hiding_block(folder: str, files: list[str], unusable: set[str]) -> list[str]:
    """Rules that match the unusable ones of a folder's files and no others; no lines where all are usable."""
    if not unusable:
        return []
    hidden = [_rule(folder, path) for path in files if path in unusable]
    # A rule with a `?` in it may also match the name of a usable file, which is then included again.
    patterns = GitIgnoreSpec.from_lines(hidden)
    matched = [path for path in files if path not in unusable and patterns.match_file(f"{folder}/{path}")]
    return [HIDDEN, *hidden, *(f"!{_rule(folder, path)}" for path in matched), HIDDEN_END]


def _rule(folder: str, path: str) -> str:
    """A pattern for one file: special characters are escaped, characters that cannot be written become `?`."""
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)
    writable = re.sub(r"[\x00-\x1f\ud800-\udfff]", "?", escaped)
    return f"/{folder}/{writable}"


def _user_lines(root: Path) -> list[str]:
    """The lines of .dvcignore outside Ragtide's block."""
    rules = root / ".dvcignore"
    try:
        lines = rules.read_text(encoding="utf-8").split("\n") if rules.is_file() else []
    except (OSError, UnicodeDecodeError) as problem:
        raise unreadable_file(rules, problem) from problem
    if HIDDEN not in lines:
        return lines
    first = lines.index(HIDDEN)
    last = lines.index(HIDDEN_END) if HIDDEN_END in lines else len(lines) - 1
    return lines[:first] + lines[last + 1 :]
