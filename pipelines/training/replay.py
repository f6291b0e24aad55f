"""What else does the model learn, so that it does not forget? Examples of training files that are gone: a replay.

A retrain starts from the base model, so that a skill whose file was taken away would be gone with it. A share of the
lessons therefore comes from files that the live model, or one before it, has learnt from (experience replay: Rolnick et
al. 2019, arXiv:1811.11682). A file that stays speaks for itself: what it lost is a correction, and is not taught again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragtide.pipelines.data.dvc import read_earlier_file
from ragtide.pipelines.data.jsonl import read_earlier_lines
from ragtide.pipelines.data.snapshot import earlier_snapshots
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.examples import Example, TrainingLine, read_examples, validate_examples
from ragtide.pipelines.training.samples import draw_position
from ragtide.pipelines.workspace import Workspace

# From this share of its conversations on, a file that is gone stands under another name.
RENAMED_SHARE = 0.5


@dataclass(frozen=True)
class ReplayExamples:
    """Examples to be taught once more, of training files that are gone (training/replay.py).

    `files` are those files as they stood last (path -> MD5); `missing` the ones that DVC's cache holds no more.
    """

    examples: tuple[Example, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class CurrentExamples:
    """The training data of today, which a replay must not repeat or contradict.

    `files` are the training files (path -> MD5), `pages` the documents (path -> text), `count` the usable examples.
    """

    files: Mapping[str, str]
    pages: Mapping[str, str]
    count: int


def replay_examples(
    workspace: Workspace, live: BuiltModel, current: CurrentExamples, golden: Sequence[str]
) -> ReplayExamples:
    """So many examples of files that are gone as a whole that they make `examples.replay_share` of those to be learnt.

    Not those of a file whose conversations mostly stand under another name; of the rest not what a present line asks,
    whatever it answers; what asks for a page that is gone, or one of `golden`; what its page contradicts. Drawn by
    digest, evenly from every file, however old. What DVC's cache no longer holds is named in `missing`.
    """
    params, held = workspace.params, current.files
    gone = {path: digest for path, digest in live.files.items() if path not in held}
    if not gone or not params.examples.replay_share:
        return ReplayExamples()
    asked = _asked(workspace, held)
    files = _last(workspace, gone)
    read = {path: _read(workspace, path, digest) for path, digest in files.items()}
    kept = {path: some for path, some in read.items() if not _is_renamed(some, asked)}
    lines = [one for some in kept.values() for one in some if one.conversation not in asked]
    fit = validate_examples(lines, current.pages, golden, params).examples
    share = params.examples.replay_share
    return ReplayExamples(
        examples=_evenly(fit, round(share / (1 - share) * current.count), params.finetune.seed),
        files={path: files[path] for path in kept},
        missing=tuple(path for path in kept if read_earlier_file(workspace, files[path]) is None),
    )


def _asked(workspace: Workspace, files: Mapping[str, str]) -> set[tuple[tuple[str, str], ...]]:
    """Every conversation of the files of today, those among them that nothing is learnt from."""
    lines = read_examples(workspace.train, files)
    return {one.conversation for one in lines if isinstance(one, Example)}


def _last(workspace: Workspace, gone: Mapping[str, str]) -> dict[str, str]:
    """Files as they stood last: they may have been corrected after they were learnt from."""
    last = dict(gone)
    for snapshot in reversed([*earlier_snapshots(workspace)]):
        last |= {path: digest for path, digest in snapshot.examples.items() if path in gone}
    return last


def _read(workspace: Workspace, path: str, digest: str) -> list[Example]:
    return [Example.of(line, where) for where, line in read_earlier_lines(workspace, {path: digest}, TrainingLine)]


def _is_renamed(some: Sequence[Example], asked: set[tuple[tuple[str, str], ...]]) -> bool:
    found = sum(one.conversation in asked for one in some)
    return bool(some) and found >= RENAMED_SHARE * len(some)


def _evenly(examples: Sequence[Example], limit: int, seed: int) -> tuple[Example, ...]:
    """`limit` of them by turns from every file, each file's in an order that no other example moves."""
    by_file: dict[str, list[Example]] = defaultdict(list)
    for one in sorted(examples, key=lambda one: draw_position(one, seed, "replay")):
        by_file[one.where.rpartition(":")[0]].append(one)
    turns = [(turn, path) for path, some in by_file.items() for turn in range(len(some))]
    return tuple(by_file[path][turn] for turn, path in sorted(turns)[:limit])
