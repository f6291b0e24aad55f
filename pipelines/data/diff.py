"""Difference between two snapshots: pure, two manifests in, one ChangeSet out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from ragtide.pipelines.records.data import ChangeSet, Rename, Snapshot


def diff_snapshots(
    before: Snapshot | None, after: Snapshot, moved_to: Callable[[str], str | None] = lambda _: None
) -> ChangeSet:
    """Documents added, edited, renamed and removed, and whether examples or questions changed.

    A rename is the same content under another path. Rename and edit together are a removal and an addition, except
    where `moved_to` knows the new path of a document.
    """
    old = before.documents if before else {}
    new = after.documents
    removed = {path: digest for path, digest in old.items() if path not in new}
    added = {path: digest for path, digest in new.items() if path not in old}
    same = pair_renames(removed, added)
    renames = tuple(sorted((*same, *_edited_renames(removed, added, same, moved_to)), key=lambda pair: pair.before))
    sources = {rename.before for rename in renames}
    targets = {rename.after for rename in renames}
    return ChangeSet(
        before=before.id if before else None,
        after=after.id,
        added=tuple(sorted(path for path in new if path not in old and path not in targets)),
        edited=tuple(sorted(path for path in new if path in old and old[path] != new[path])),
        renamed=renames,
        removed=tuple(sorted(path for path in old if path not in new and path not in sources)),
        examples_changed=(before.examples if before else {}) != after.examples,
        questions_changed=(before.questions if before else {}) != after.questions,
    )


def pair_renames(removed: Mapping[str, str], added: Mapping[str, str]) -> tuple[Rename, ...]:
    """Pair equal contents in order of path, so that duplicates are always paired in the same way."""
    targets = defaultdict(list)
    for path in sorted(added):
        targets[added[path]].append(path)
    return tuple(
        Rename(before=path, after=targets[removed[path]].pop(0)) for path in sorted(removed) if targets[removed[path]]
    )


def _edited_renames(
    removed: Mapping[str, str],
    added: Mapping[str, str],
    same: tuple[Rename, ...],
    moved_to: Callable[[str], str | None],
) -> list[Rename]:
    """Renames of documents that were edited besides; none shares a path with a rename that is known by its content."""
    taken = {path for rename in same for path in (rename.before, rename.after)}
    renames = []
    for path in sorted(removed.keys() - taken):
        now = moved_to(path) or path
        if now in added and now not in taken:
            taken.add(now)
            renames.append(Rename(before=path, after=now, edited=added[now] != removed[path]))
    return renames
