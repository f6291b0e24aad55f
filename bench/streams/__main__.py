"""What happens in each stream? A table, a row a step, and how many models could be trained.

python -m bench.streams --data FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bench.streams import Step, Stream, missing, streams
from bench.tables import markdown_table
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import ChangeSet, Snapshot

HEAD = ("stream", "step", "what", "added", "edited", "removed", "renamed", "new examples", "answers changed", "right")


def main() -> int:
    """Print the table; say clearly where the data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    if lacking := missing(options.data):
        sys.stderr.write(f"bench.streams: {options.data} has no {lacking[0]}: name the data with --data\n")
        return 1
    sys.stdout.write(table(streams(options.data)))
    return 0


def table(of: Sequence[Stream]) -> str:
    """Two Markdown tables: the steps, and the streams."""
    steps = markdown_table(HEAD, [row for stream in of for row in rows(stream)])
    sizes = [(stream.name, stream.half, *sized(stream.steps[0]), str(stream.training_sets())) for stream in of]
    head = ("stream", "half", "pages", "questions", "examples", "training sets")
    return f"{steps}\n\nAt the start, and over all steps:\n\n{markdown_table(head, sizes)}\n"


def sized(step: Step) -> tuple[str, str, str]:
    return (str(len(step.documents)), str(len(step.questions)), str(len(step.examples)))


def rows(stream: Stream) -> Iterator[tuple[str, ...]]:
    """What each step after the start changes."""
    for number, (before, after) in enumerate(pairwise(stream.steps), start=1):
        found = changes(before, after)
        counts = [len(some) for some in (found.added, found.edited, found.removed, found.renamed)]
        right = " or ".join(map(str, sorted(after.right))) if after.right else "not clear-cut"
        told = [str(count) for count in (*counts, new_examples(before, after), answers_changed(before, after))]
        yield (stream.name, str(number), after.what, *told, right)


def changes(before: Step, after: Step) -> ChangeSet:
    """What the product's own diff says of the documents."""
    return diff_snapshots(_snapshot(before), _snapshot(after))


def _snapshot(step: Step) -> Snapshot:
    documents = {path: json_digest(text) for path, text in step.documents.items()}
    found = json_digest(documents)
    return Snapshot(id=found, kb_id=found, train_id="", golden_id="", documents=documents, examples={}, questions={})


def new_examples(before: Step, after: Step) -> int:
    """How many prompts with completions were not there before."""
    old, new = ({(one["prompt"], one["completion"]) for one in step.examples} for step in (before, after))
    return len(new - old)


def answers_changed(before: Step, after: Step) -> int:
    """How many questions of both have another true answer, or another format of it."""
    old = {question.id: (question.answers, question.format) for question in before.truth}
    return sum(old.get(one.id, (one.answers, one.format)) != (one.answers, one.format) for one in after.truth)


if __name__ == "__main__":
    sys.exit(main())
