"""What has changed between two snapshots? Pure: two manifests in, one ChangeSet out."""

from __future__ import annotations

from collections import defaultdict

from ragtide.pipelines.records.data import ChangeSet, Rename, Snapshot


def diff_snapshots(before: Snapshot | None, after: Snapshot) -> ChangeSet:
    """Documents added, edited, renamed and removed, and whether examples or questions moved.

    A rename is the same content under another path; rename and edit together are a removal and an addition.
    """
    old = before.documents if before else {}
    new = after.documents
    renames = _renames(
        gone={path: digest for path, digest in old.items() if path not in new},
        come={path: digest for path, digest in new.items() if path not in old},
    )
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


def _renames(gone: dict[str, str], come: dict[str, str]) -> tuple[Rename, ...]:
    """Pair equal contents in order of path, so that twins pair off the same way every time."""
    homes = defaultdict(list)
    for path in sorted(come):
        homes[come[path]].append(path)
    return tuple(Rename(before=path, after=homes[gone[path]].pop(0)) for path in sorted(gone) if homes[gone[path]])
