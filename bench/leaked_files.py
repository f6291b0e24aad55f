"""Files in a LanceDB database that no version of their table references, as killed writers leave them behind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import lance

TRANSACTION = re.compile(rb"\d+-[0-9a-f-]{36}\.txn")


def leaked(database: Path) -> dict[str, int]:
    """Count the files in the database that no version of their table references, by kind."""
    unreferenced: Counter[str] = Counter()
    for folder in sorted(database.glob("*.lance")):
        referenced = _referenced(folder)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            relative = path.relative_to(folder)
            if path.name.startswith(".tmp"):
                unreferenced["temporary"] += 1
            elif relative.parts[0] in ("data", "_deletions", "_indices", "_transactions"):
                key = "/".join(relative.parts[:2])
                unreferenced[f"{folder.stem.split('-')[0]} {relative.parts[0].strip('_')}"] += key not in referenced
    return {kind: count for kind, count in sorted(unreferenced.items()) if count}


def _referenced(folder: Path) -> set[str]:
    """Return the data files, deletion files, indexes and transactions that the versions of a table reference."""
    referenced: set[str] = set()
    latest = lance.dataset(str(folder))
    for entry in latest.versions():
        version = latest.checkout_version(entry["version"])
        for fragment in version.get_fragments():
            referenced |= {f"data/{file.path}" for file in fragment.metadata.files}
            if deletions := fragment.deletion_file():
                referenced.add(deletions)
        segments = (segment for index in version.describe_indices() for segment in index.segments)
        referenced |= {f"_indices/{segment.uuid}" for segment in segments}
    # lance 7 cannot read the transaction of a compaction back; the manifest names its file.
    for manifest in (folder / "_versions").glob("*.manifest"):
        referenced |= {f"_transactions/{name.decode()}" for name in TRANSACTION.findall(manifest.read_bytes())}
    return referenced
