"""Experience replay: examples of deleted training files, so that a retrain does not forget their skills.

A retrain starts from the base model, so that the skill of a deleted training file would be lost. A share of the
training examples therefore comes from deleted files that the live model or an earlier one was trained on (experience
replay: Rolnick et al. 2019, arXiv:1811.11682). Lines removed from a file that still exists count as corrections and
are not replayed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragtide.pipelines.data.dvc_cache import read_earlier_file
from ragtide.pipelines.data.jsonl import read_earlier_lines
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import earlier_snapshots
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.examples import (
    Conversation,
    Example,
    TrainingLine,
    follow_documents,
    read_examples,
    validate_examples,
)
from ragtide.pipelines.training.samples import draw_position
from ragtide.pipelines.workspace import Workspace

# A deleted file counts as renamed if at least this share of its conversations is in the current files.
RENAMED_SHARE = 0.5


@dataclass(frozen=True)
class ReplayExamples:
    """Examples of deleted training files that a retrain is trained on again.

    `files` are those files in their last state (path -> MD5), `missing` the paths that DVC's cache no longer has.
    """

    examples: tuple[Example, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class CurrentExamples:
    """The current training data, which replayed examples must neither repeat nor contradict.

    `files` are the training files (path -> MD5), `pages` the documents (path -> text), `count` the usable examples,
    `paths` the moves of documents since.
    """

    files: Mapping[str, str]
    pages: Mapping[str, str]
    count: int
    paths: DocumentPaths = field(default_factory=DocumentPaths)


def replay_examples(
    workspace: Workspace, live: BuiltModel, current: CurrentExamples, golden: Sequence[str]
) -> ReplayExamples:
    """Examples of deleted files, as many as make up `examples.replay_share` of all training examples.

    Excluded are: files that were renamed (most of their conversations are in current files); conversations of current
    lines, whatever their answer; and what `validate_examples` filters: examples of deleted pages, leaks of `golden`
    questions, and answers that contradict their page. The draw takes equally many from every file, however old.
    Files that are no longer in DVC's cache are listed in `missing`.
    """
    params = workspace.params
    deleted = {path: digest for path, digest in live.files.items() if path not in current.files}
    if not deleted or not params.examples.replay_share:
        return ReplayExamples()
    current_conversations = _conversations(workspace, current.files)
    files = _last_states(workspace, deleted)
    by_file = {path: _read_file(workspace, path, digest) for path, digest in files.items()}
    kept = {path: examples for path, examples in by_file.items() if not _is_renamed(examples, current_conversations)}
    candidates = [
        example
        for examples in kept.values()
        for example in examples
        if example.conversation not in current_conversations
    ]
    followed = follow_documents(candidates, current.paths)
    valid = validate_examples(followed, current.pages, golden, params).examples
    share = params.examples.replay_share
    return ReplayExamples(
        examples=_draw_evenly(valid, round(share / (1 - share) * current.count), params.finetune.seed),
        files={path: files[path] for path in kept},
        missing=tuple(path for path in kept if read_earlier_file(workspace, files[path]) is None),
    )


def _conversations(workspace: Workspace, files: Mapping[str, str]) -> set[Conversation]:
    """All conversations of the current files, including those that are filtered from training."""
    lines = read_examples(workspace.train, files)
    return {line.conversation for line in lines if isinstance(line, Example)}


def _last_states(workspace: Workspace, deleted: Mapping[str, str]) -> dict[str, str]:
    """Deleted files in their last state (path -> MD5), which may be a correction of what the model was trained on."""
    last = dict(deleted)
    for snapshot in reversed([*earlier_snapshots(workspace)]):
        last |= {path: digest for path, digest in snapshot.examples.items() if path in deleted}
    return last


def _read_file(workspace: Workspace, path: str, digest: str) -> list[Example]:
    return [Example.of(line, where) for where, line in read_earlier_lines(workspace, {path: digest}, TrainingLine)]


def _is_renamed(examples: Sequence[Example], current: set[Conversation]) -> bool:
    repeated = sum(example.conversation in current for example in examples)
    return bool(examples) and repeated >= RENAMED_SHARE * len(examples)


def _draw_evenly(examples: Sequence[Example], limit: int, seed: int) -> tuple[Example, ...]:
    """At most `limit` examples, taken in rotation from every file, in each file by pseudo-random draw position."""
    by_file: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: draw_position(example, seed, "replay")):
        by_file[example.where.rpartition(":")[0]].append(example)
    ranks = [(rank, path) for path, drawn in by_file.items() for rank in range(len(drawn))]
    return tuple(by_file[path][rank] for rank, path in sorted(ranks)[:limit])
