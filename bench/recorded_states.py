"""Records of a recorded stream: its steps, the states that a policy could have live, and what was found of each."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from pydantic import Field, ValidationError

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.records.evidence import Evidence

ACTIONS = (Action.NOTHING, Action.REFRESH, Action.RETRAIN, Action.REFRESH.with_retrain())
TUNING = (Action.TUNE_EMBEDDER, Action.TUNE_EMBEDDER.with_retrain())
# The model of a state without an adapter.
BASE = "base"


class State(Record):
    """The live index, identified by its rows, and the live model and embedder, identified by their training data.

    `tuned_embedder` is empty for the base embedder; `model` is BASE for the base model alone.
    """

    index: str
    model: str
    tuned_embedder: str = ""

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.index, self.model, self.tuned_embedder)))

    @property
    def with_base_model(self) -> State:
        return self.model_copy(update={"model": BASE})


class Asked(Record):
    """Keys of the prompts that an assessment sends to the model; a policy pays for the same key only once."""

    retrieved: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


class Seen(Record):
    """Assessment of a state on the data of a step.

    `score` is its quality on the true questions (0-1), `changed_score` that on the questions about changed facts (None:
    there are none, or the state cannot be live after the step), `scorecard` that on the golden questions. If the state
    may be live before the step's decision, `evidence` holds its evidence (without costs and history, which depend on
    the policy), and `refreshed`, `retrained` and `tuned` name the index, model and embedder that a refresh, a retrain
    and an embedder tuning lead to. `removed` is the live index without the rows of deleted documents, if that may
    become live. `to_embed` is the number of chunks that the refresh embeds, `all_chunks` that of a rebuild; `tuned` is
    empty if there are too few pairs.
    """

    state: State
    score: float
    changed_score: float | None = None
    scorecard: Scorecard
    asked: Asked
    evidence: Evidence | None = None
    text_seconds: float = 0.0
    vector_seconds: float = 0.0
    refreshed: str = ""
    to_embed: int = 0
    retrained: str = ""
    tuned: str = ""
    removed: str = ""
    all_chunks: int = 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions that can be taken in this state."""
        removal = (Action.REMOVE,) if self.removed else ()
        return (*ACTIONS, *(TUNING if self.tuned else ()), *removal)

    def after(self, action: Action, live: State | None = None) -> State:
        """Return the state that an action leads to, from this one or from another that is `live` by now.

        A tuned embedder's index is built from the step's corpus.
        """
        live = live or self.state
        index = self.removed if action == Action.REMOVE else self.refreshed if action.refreshes else live.index
        return State(
            index=index,
            model=self.retrained if action.retrains else live.model,
            tuned_embedder=self.tuned if action.tunes else live.tuned_embedder,
        )


class RecordedStep(Record):
    """A step of a stream: its description, the right actions, and the states that may be live before or after it."""

    description: str
    right: tuple[Action, ...] | None
    snapshot: str
    seen: dict[str, Seen]


class Recording(Record):
    """A recorded stream. `start` is live at the beginning; `opened` are the prompts of the first release.

    `trained_examples` are the training examples of each model state times the passes over them, `trained_tokens` their
    estimated tokens, `trained_pairs` the pairs of each embedder state times the passes. `simulated` says which part of
    the outcomes is simulated; `seconds` is what the recording took.
    """

    name: str
    split: str
    start: State
    opened: Asked
    steps: tuple[RecordedStep, ...]
    trained_examples: dict[str, int]
    trained_tokens: dict[str, int] = Field(default_factory=dict)
    trained_pairs: dict[str, int]
    seconds: float
    simulated: str = ""


# --- files ---------------------------------------------------------------------------------------------------------


def write_recording(recording: Recording, path: Path) -> int:
    """Write a recording without texts as compressed JSON (bench/streams/README.md); return the file's bytes.

    Defaults are left out, and the same recording always gives the same bytes.
    """
    text = shareable(recording).model_dump_json(exclude_defaults=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    unfinished.replace(path)
    return path.stat().st_size


def read_recording(path: Path) -> Recording:
    """Read a recording. Raises UserError naming the file if it cannot be read."""
    try:
        return Recording.model_validate_json(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValidationError) as problem:
        raise UserError(f"{path} cannot be read as a recording: {summarize_error(problem)}") from problem


def shareable(recording: Recording) -> Recording:
    """Return a recording without texts of documents and answers, and with short names of states and prompts."""
    short = _ShortNames.of(recording)
    steps = [
        step.model_copy(update={"seen": {short.state(seen.state).key: short.seen(seen) for seen in step.seen.values()}})
        for step in recording.steps
    ]
    trained = {
        name: {short.names.get(key, key): count for key, count in getattr(recording, name).items()}
        for name in ("trained_examples", "trained_tokens", "trained_pairs")
    }
    start, opened = short.state(recording.start), short.asked(recording.opened)
    return recording.model_copy(update={"start": start, "opened": opened, "steps": tuple(steps), **trained})


class _ShortNames:
    """Short names by digest: i0, m0, t0 of index, model and embedder states, and numbers of prompts."""

    def __init__(self, names: Mapping[str, str], prompts: Mapping[str, str]) -> None:
        self.names, self._prompts = names, prompts

    @classmethod
    def of(cls, recording: Recording) -> _ShortNames:
        every = [seen for step in recording.steps for seen in step.seen.values()]
        states = [recording.start, *(seen.state for seen in every)]
        indexes = chain((state.index for state in states), (name for seen in every for name in _indexes(seen)))
        models = chain((state.model for state in states), (seen.retrained for seen in every))
        embedders = chain((state.tuned_embedder for state in states), (seen.tuned for seen in every))
        names = _numbered(indexes, "i") | _numbered(models, "m") | _numbered(embedders, "t") | {BASE: BASE, "": ""}
        asked = [recording.opened, *(seen.asked for seen in every)]
        prompts = (key for each in asked for key in (*each.retrieved, *each.gold, *each.losses))
        return cls(names, _numbered(prompts, ""))

    def state(self, state: State) -> State:
        names = self.names
        return State(index=names[state.index], model=names[state.model], tuned_embedder=names[state.tuned_embedder])

    def asked(self, asked: Asked) -> Asked:
        fields = {name: getattr(asked, name) for name in ("retrieved", "gold", "losses")}
        return Asked(**{name: tuple(self._prompts[key] for key in keys) for name, keys in fields.items()})

    def seen(self, seen: Seen) -> Seen:
        onward = {name: self.names[getattr(seen, name)] for name in ("refreshed", "retrained", "tuned", "removed")}
        update = {"state": self.state(seen.state), "asked": self.asked(seen.asked), **onward}
        evidence = _without_texts(seen.evidence) if seen.evidence else None
        return seen.model_copy(update={**update, "scorecard": _without_answers(seen.scorecard), "evidence": evidence})


def _indexes(seen: Seen) -> tuple[str, str]:
    return seen.refreshed, seen.removed


def _numbered(keys: Iterable[str], prefix: str) -> dict[str, str]:
    distinct = [key for key in dict.fromkeys(keys) if key and key != BASE]
    return {key: f"{prefix}{number}" for number, key in enumerate(distinct)}


def _without_answers(card: Scorecard) -> Scorecard:
    graded = tuple(answer.model_copy(update={"answer": "", "sources": ()}) for answer in card.graded)
    return card.model_copy(update={"graded": graded})


def _without_texts(evidence: Evidence) -> Evidence:
    lines = tuple(line.model_copy(update={"answer": ""}) for line in evidence.data.golden.lines)
    golden = evidence.data.golden.model_copy(update={"lines": lines})
    data = evidence.data.model_copy(update={"golden": golden})
    return evidence.model_copy(update={"data": data, "signal_seconds": {}})
