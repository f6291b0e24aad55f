"""Table of the streams' steps and sizes.

python -m bench.streams [--data FOLDER]
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

HEAD = (
    "stream",
    "step",
    "description",
    "added",
    "edited",
    "removed",
    "renamed",
    "new examples",
    "answers changed",
    "changed facts asked",
    "right",
)


def main() -> int:
    """Print the tables; return 1 if the data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="without it, the streams that need no data")
    options = parser.parse_args()
    if options.data and (absent := missing(options.data)):
        sys.stderr.write(f"bench.streams: {options.data} has no {absent[0]}: pass the data folder with --data\n")
        return 1
    sys.stdout.write(table(streams(options.data)))
    return 0


def table(listed: Sequence[Stream]) -> str:
    """Return two Markdown tables: the steps, and the sizes of the streams."""
    steps = markdown_table(HEAD, [row for stream in listed for row in rows(stream)])
    sizes = [
        (
            stream.name,
            stream.split,
            *sizes_of(stream.steps[0]),
            str(stream.training_sets()),
            stream.simulated,
        )
        for stream in listed
    ]
    head = ("stream", "split", "pages", "questions", "examples", "training sets", "simulated")
    return f"{steps}\n\nAt the start, and over all steps:\n\n{markdown_table(head, sizes)}\n"


def sizes_of(step: Step) -> tuple[str, str, str]:
    """Return the numbers of documents, questions and examples."""
    return (str(len(step.documents)), str(len(step.questions)), str(len(step.examples)))


def rows(stream: Stream) -> Iterator[tuple[str, ...]]:
    """Yield a table row for the changes of each step after the start."""
    for number, (before, after) in enumerate(pairwise(stream.steps), start=1):
        diff = changes(before, after)
        counts = [len(group) for group in (diff.added, diff.edited, diff.removed, diff.renamed)]
        right = " or ".join(map(str, sorted(after.right))) if after.right else "not clear-cut"
        cells = [str(count) for count in (*counts, new_examples(before, after), answers_changed(before, after))]
        cells.append(str(len(after.changed_facts)))
        yield (stream.name, str(number), after.description, *cells, right)


def changes(before: Step, after: Step) -> ChangeSet:
    """Return the product's own diff of the documents."""
    return diff_snapshots(_snapshot(before), _snapshot(after))


def _snapshot(step: Step) -> Snapshot:
    documents = {path: json_digest(text) for path, text in step.documents.items()}
    digest = json_digest(documents)
    return Snapshot(id=digest, kb_id=digest, train_id="", golden_id="", documents=documents, examples={}, questions={})


def new_examples(before: Step, after: Step) -> int:
    """Count the examples (prompt with completion) that the earlier step does not have."""
    old, new = ({(example["prompt"], example["completion"]) for example in step.examples} for step in (before, after))
    return len(new - old)


def answers_changed(before: Step, after: Step) -> int:
    """Count the questions of both steps whose true answer or its format differs."""
    old = {question.id: (question.answers, question.format) for question in before.truth}
    new = {question.id: (question.answers, question.format) for question in after.truth}
    return sum(old.get(key, answer) != answer for key, answer in new.items())


if __name__ == "__main__":
    sys.exit(main())
