"""What does every action really bring? Each is carried out once, from every state of a stream that it can be taken in.

An index state is what the rows hold, a model state what the adapter was taught, a retriever state the pairs that it was
tuned on. For each three of them that a policy could have live at a step, the evidence is gathered, and what a refresh,
a retrain and a tuning lead to is built: with the real LanceDB, the real training and the real models. Policies are then
replayed on the record for free (bench/replay.py).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from bench.streams import Step, Stream
from ragtide.pipelines.build import build_model, open_index
from ragtide.pipelines.corpus import Corpus, documents_from_chunks
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet, split_stale
from ragtide.pipelines.evidence.gather import EvidenceInputs, gather_evidence
from ragtide.pipelines.evidence.text_signals import LiveIndexView
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_index_embedder, load_models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Message, Progress, Prompt, TrainingSample
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record, json_digest
from ragtide.pipelines.records.data import Chunk, Document, Snapshot
from ragtide.pipelines.records.evaluation import RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Costs, Evidence, Measure
from ragtide.pipelines.records.release import BuiltEmbedder, BuiltIndex, BuiltModel, Release
from ragtide.pipelines.training.embedder_tuning import (
    TuningData,
    build_embedder,
    pair_sketch,
    tuning_data,
    tuning_settings,
)
from ragtide.pipelines.training.examples import Example, validate_examples
from ragtide.pipelines.training.pairs import TrainingPair, build_pairs
from ragtide.pipelines.workspace import Workspace

# More pairs than any stream has, so that its retriever cannot be tuned: in most nearly all is found without it, and a
# retriever for each step would multiply the states that have to be looked at.
NEVER_ENOUGH = 1_000_000
# Small enough that everything can be built on two cores: short passages, two of them before the model.
PARAMS: dict[str, Any] = {
    "chunk": {"max_words": 80},
    "index": {"top_k": 2},
    "generate": {"max_new_tokens": 24},
    "finetune": {"batch_size": 2, "min_steps": 24},
    "deletion_guard": {"max_removed_documents": 3, "max_removed_share": 0.2},
    "embedder_tuning": {"batch_size": NEVER_ENOUGH},
}
# What a stream needs besides: an API's new names are not learnt in one pass over so few examples; where search does not
# find what people ask for, the retriever can be tuned, as params.yaml has it.
BESIDES: dict[str, dict[str, Any]] = {
    "api": {"finetune": {**PARAMS["finetune"], "epochs": 2}},
    "names": {"embedder_tuning": {}},
}
_NONE = Measure.unmeasured("not asked for")
NO_COSTS = Costs(refresh_seconds=0, retrain_seconds=0, prove_seconds=0, source="")
GOLD, FOUND, READING = "answering with the right passage", "answering with retrieved passages", "reading new examples"
TEXT_SIGNALS = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "vocabulary")
VECTOR_SIGNALS = ("novelty",)
ACTIONS = (Action.NOTHING, Action.REFRESH, Action.RETRAIN, Action.REFRESH.with_retrain())
TUNING = (Action.TUNE_EMBEDDER, Action.TUNE_EMBEDDER.with_retrain())
R = TypeVar("R", bound=Record)


class State(Record):
    """What is live: an index by what its rows hold, a model and a retriever by what they were taught.

    `retriever` is empty where it is as it comes.
    """

    index: str
    model: str
    tuned_embedder: str = ""

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.index, self.model, self.tuned_embedder)))


class Asked(Record):
    """What a look at a state asks the model, by key: the same key is asked only once along a path."""

    found: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


class Seen(Record):
    """A state at a step, as the data then is.

    `score` is its quality on the truth (0-1), `scorecard` what the golden questions say. Before anything is done about
    the step it may be live: then there is `evidence`, without costs and past, which belong to whoever replays, and the
    index, the model and the retriever that a refresh, a retrain and a tuning lead to. `to_embed` is the work of that
    refresh, `all_chunks` that of making its index anew; `tuned` is empty where there is too little to tune on.
    """

    state: State
    score: float
    scorecard: Scorecard
    asked: Asked
    evidence: Evidence | None = None
    text_seconds: float = 0.0
    vector_seconds: float = 0.0
    refreshed: str = ""
    to_embed: int = 0
    retrained: str = ""
    tuned: str = ""
    all_chunks: int = 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """What can be done from here."""
        return (*ACTIONS, *TUNING) if self.tuned else ACTIONS

    def after(self, action: Action) -> State:
        """What an action leads to; a tuned retriever's index is made of the step's corpus."""
        return State(
            index=self.refreshed if action.refreshes else self.state.index,
            model=self.retrained if action.retrains else self.state.model,
            tuned_embedder=self.tuned if action.tunes else self.state.tuned_embedder,
        )


class Turn(Record):
    """One step of a stream: what happened, what is right, and every state that may be live before or after it."""

    what: str
    right: tuple[Action, ...] | None
    snapshot: str
    seen: dict[str, Seen]


class Recording(Record):
    """A stream, carried out; it begins with `start` live, and with what its plan and its proof have `opened` asked.

    `trained_examples` are those that a model state takes, times the passes over them; `trained_pairs` those of a
    retriever state.
    """

    name: str
    half: str
    start: State
    opened: Asked
    turns: tuple[Turn, ...]
    trained_examples: dict[str, int]
    seconds: float
    trained_pairs: dict[str, int] = Field(default_factory=dict)


# --- looking -------------------------------------------------------------------------------------------------------


class Listening(Answerer):
    """An answerer that notes what it was asked."""

    def __init__(self, workspace: Workspace, models: Models, progress: Progress) -> None:
        super().__init__(workspace, models, progress)
        self.heard: dict[str, list[str]] = {}

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        self._note(label, model, [[[turn.content for turn in prompt]] for prompt in prompts])
        return super().answer(label, prompts, model)

    def losses(self, label: str, lessons: Sequence[TrainingSample], model: BuiltModel) -> list[float] | None:
        self._note(label, model, [[[turn.content for turn in one.prompt], one.completion] for one in lessons])
        return super().losses(label, lessons, model)

    def _note(self, label: str, model: BuiltModel, asked: Sequence[Any]) -> None:
        self.heard.setdefault(label, []).extend(json_digest([model.adapter, one]) for one in asked)

    def take(self) -> Asked:
        """What was asked since the last time."""
        heard, self.heard = self.heard, {}
        found, gold, losses = (tuple(dict.fromkeys(heard.get(label, ()))) for label in (FOUND, GOLD, READING))
        return Asked(found=found, gold=gold, losses=losses)


class PlainExaminer(Evaluator):
    """An examiner that leaves out how well each way to search does: only a tuned retriever's gate asks for it."""

    def _retrieval(self, reader: object) -> dict[str, RetrievalMetrics]:  # noqa: ARG002 - the examiner's form
        return {}


# --- carrying out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """An index state: the version of the table, its documents, and the folder's files that it was made from."""

    version: int
    documents: dict[str, str]
    digests: frozenset[str]


@dataclass(frozen=True)
class Live:
    """A state, there to be looked at: its rows under its retriever, and its model."""

    state: State
    rows: Rows
    index: Index
    tuned_embedder: LoadedEmbedder
    model: BuiltModel

    @property
    def system_under_test(self) -> SystemUnderTest:
        return SystemUnderTest(self.index.retriever(self.rows.version), self.model)


class Stage:
    """A folder in which one stream is carried out."""

    def __init__(self, stream: Stream, root: Path, progress: Progress) -> None:
        index = {**PARAMS["index"], "uri": str(root / stream.name)}
        params = Params.model_validate({**PARAMS, **BESIDES.get(stream.name, {}), "index": index})
        self._stream = stream
        self._space = Workspace(root, params)
        self._models = load_models(params)
        self._answerer = Listening(self._space, self._models, progress)
        self._progress = progress
        # By retriever and content: the vectors of two retrievers never mix.
        self._rows: dict[tuple[str, str], Rows] = {}
        self._taught: dict[str, BuiltModel] = {}
        self._retrievers = {"": LoadedEmbedder(self._models.embedder)}
        self._earlier: list[Mapping[str, str]] = []

    @property
    def params(self) -> Params:
        return self._space.params

    def carry_out(self) -> Recording:
        """Every state of every step, each looked at once."""
        started = time.perf_counter()
        first = corpus_of(self._stream.steps[0], {}, self.params)
        start = State(index=self._refresh(first), model=self._retrain(first))
        opened = self._look(self._stream.steps[0], start, decide=True).asked
        turns, live = [], {start.key: start}
        for step in self._stream.steps[1:]:
            turn, live = self._turn(step, live)
            turns.append(turn)
            self._earlier.append(_snapshot(step).documents)
        return Recording(
            name=self._stream.name,
            half=self._stream.half,
            start=start,
            opened=opened,
            turns=tuple(turns),
            trained_examples={key: model.trained_examples for key, model in self._taught.items()},
            trained_pairs={
                key: self.params.embedder_tuning.trained_pairs(built.pairs) for key, built in self._tuned().items()
            },
            seconds=round(time.perf_counter() - started, 1),
        )

    def _turn(self, step: Step, live: dict[str, State]) -> tuple[Turn, dict[str, State]]:
        """What each live state is worth at this step, and the states that may be live after it."""
        seen = {key: self._act(step, self._look(step, state, decide=True)) for key, state in live.items()}
        led_to = [one.after(action) for one in seen.values() for action in one.actions]
        after = {**live, **{state.key: state for state in led_to}}
        for key, state in after.items():
            if key not in seen:
                seen[key] = self._look(step, state, decide=False)
        right = tuple(sorted(step.right)) if step.right is not None else None
        snapshot = _snapshot(step).id
        return Turn(what=step.what, right=right, snapshot=snapshot, seen=seen), after

    # --- looking at one state --------------------------------------------------------------------------------------

    def _look(self, step: Step, state: State, decide: bool) -> Seen:
        live = self._live(state)
        corpus = self._corpus(step, live)
        golden = split_stale(step.truth, corpus.texts)
        there = tuning_data(self.params, _pairs(step, corpus), live.tuned_embedder.tuned)
        kind = PlainExaminer if there.pairs < there.least else Evaluator
        examiner = kind(corpus, golden, self._answerer, self.params)
        self._answerer.take()
        evidence = self._evidence(corpus, live, examiner, there) if decide else None
        scorecard = examiner.scorecard(live.system_under_test)
        asked = self._answerer.take()
        truth = PlainExaminer(corpus, GoldenSet(step.truth, ()), self._answerer, self.params)
        scores = [one.score for one in truth.with_retrieval(live.system_under_test)]
        seconds = evidence.signal_seconds if evidence else {}
        return Seen(
            state=state,
            score=sum(scores) / len(scores),
            scorecard=scorecard,
            asked=asked,
            evidence=evidence,
            text_seconds=round(sum(seconds.get(name, 0.0) for name in TEXT_SIGNALS), 3),
            vector_seconds=round(sum(seconds.get(name, 0.0) for name in VECTOR_SIGNALS), 3),
        )

    def _live(self, state: State) -> Live:
        rows, retriever = self._rows[state.tuned_embedder, state.index], self._retrievers[state.tuned_embedder]
        return Live(state, rows, self._index(state.tuned_embedder), retriever, self._taught[state.model])

    def _corpus(self, step: Step, live: Live) -> Corpus:
        documents = live.rows.documents
        kept = live.index.chunks(documents, live.rows.version)
        return corpus_of(step, documents, self.params, kept, self._earlier)

    def _evidence(self, corpus: Corpus, live: Live, examiner: Evaluator, there: TuningData) -> Evidence:
        index, version, golden = live.index, live.rows.version, examiner.golden
        then = compose_snapshot(
            live.rows.documents, {"examples.jsonl": live.state.model}, {"golden.jsonl": golden.digest()}
        )
        now = corpus.snapshot.model_copy(update={"questions": then.questions, "golden_id": then.golden_id})
        asked = {doc for question in golden.questions for doc in question.docs}
        world = EvidenceInputs(
            corpus=corpus,
            changes=diff_snapshots(then, now),
            delta=index.delta(corpus.chunks, version),
            live=_release(then, live.rows, live.model),
            costs=NO_COSTS,
            rejected_actions={},
            before=LiveIndexView.of(index, version, corpus, asked, self.params.evidence.old_chunks),
            tunable=there,
        )
        return gather_evidence(world, examiner, live.system_under_test, live.tuned_embedder.embedder, self.params)

    # --- acting on one state ---------------------------------------------------------------------------------------

    def _act(self, step: Step, seen: Seen) -> Seen:
        """Build all that can be built from a state; what it leads to stands in what was seen of it."""
        live = self._live(seen.state)
        corpus = self._corpus(step, live)
        refreshed, tuned = self._refresh(corpus, seen.state.tuned_embedder), self._tune(_pairs(step, corpus), live)
        if tuned:
            self._refresh(corpus, tuned)
        after = self._rows[seen.state.tuned_embedder, refreshed]
        return seen.model_copy(
            update={
                "refreshed": refreshed,
                "to_embed": len(after.digests - live.rows.digests),
                "retrained": self._retrain(corpus),
                "tuned": tuned,
                "all_chunks": len(after.digests) if tuned else 0,
            }
        )

    def _index(self, retriever: str = "") -> Index:
        return open_index(self._space, self._retrievers[retriever].embedder)

    def _refresh(self, corpus: Corpus, retriever: str = "") -> str:
        """Bring the table up to a corpus, unless a version of it holds that already; the state's key."""
        key = json_digest(sorted([chunk.document, chunk.position, chunk.digest] for chunk in corpus.chunks))
        if (retriever, key) not in self._rows:
            index = self._index(retriever)
            # As in the product, another retriever's index is a new version of the same table.
            built = index.refresh(corpus.source, corpus.snapshot.kb_id, self._progress, rebuild=True)
            digests = frozenset(chunk.digest for chunk in corpus.chunks)
            self._rows[retriever, key] = Rows(built.version, index.documents(built.version), digests)
        return key

    def _tune(self, pairs: Sequence[TrainingPair], live: Live) -> str:
        """Tune on the pairs, unless that was done already; the state's key, empty where they are too few."""
        if len(pairs) < tuning_data(self.params, pairs, live.tuned_embedder.tuned).least:
            return ""
        key = json_digest([tuning_settings(self.params), pair_sketch(pairs)])
        if key not in self._retrievers:
            built = self._kept_retriever(key) or self._train_retriever(key, pairs, live)
            self._retrievers[key] = load_index_embedder(self._space, self._models.embedder, built)
        return key

    def _train_retriever(self, key: str, pairs: Sequence[TrainingPair], live: Live) -> BuiltEmbedder:
        built = build_embedder(self._space, pairs, live.index.retriever(live.rows.version), self._progress)
        built.write(self._retriever_file(key))
        return built

    def _kept_retriever(self, key: str) -> BuiltEmbedder | None:
        """A retriever that a run which was broken off has tuned on the same pairs."""
        kept = _read(BuiltEmbedder, self._retriever_file(key))
        return kept if kept and (self._space.tuned_embedders / kept.digest).is_dir() else None

    def _retriever_file(self, key: str) -> Path:
        return self._space.state / "tuned" / f"{key}.json"

    def _tuned(self) -> dict[str, BuiltEmbedder]:
        return {key: one.tuned for key, one in self._retrievers.items() if one.tuned}

    def _retrain(self, corpus: Corpus) -> str:
        """Train on the corpus's examples, unless that was done already: the same examples bring the same adapter."""
        key = json_digest(sorted(example.digest for example in corpus.examples))
        if self._taught and key not in self._taught and len(corpus.examples) < self.params.finetune.min_examples:
            return next(reversed(self._taught))
        if key not in self._taught:
            self._taught[key] = self._kept(key) or self._train(key, corpus)
        return key

    def _train(self, key: str, corpus: Corpus) -> BuiltModel:
        reader = self._index().retriever(self._rows["", self._refresh(corpus)].version)
        built, _ = build_model(self._space, self._models, corpus, reader, self._progress)
        built.write(self._model_file(key))
        return built

    def _kept(self, key: str) -> BuiltModel | None:
        """An adapter that another stream, or a run that was broken off, has trained on the same examples."""
        kept = _read(BuiltModel, self._model_file(key))
        return kept if kept and (self._space.adapters / str(kept.adapter)).is_dir() else None

    def _model_file(self, key: str) -> Path:
        return self._space.state / "models" / f"{key}.json"


def corpus_of(
    step: Step,
    indexed: Mapping[str, str],
    params: Params,
    rows: Sequence[Chunk] = (),
    earlier: Sequence[Mapping[str, str]] = (),
) -> Corpus:
    """A step's data as the index is to have it; what the guard holds back stays as the rows have it.

    `earlier` are the documents (name -> digest) of the steps before, as they were recorded.
    """
    documents = [Document(id=name, text=text, digest=_md5(text)) for name, text in sorted(step.documents.items())]
    gone = find_deleted(indexed, {one.id: one.digest for one in documents}, (), earlier)
    held = pending_deletions(gone, len(indexed), (), params.deletion_guard)
    kept = [chunk for chunk in rows if chunk.document in held]
    chunks = [chunk for document in documents for chunk in chunk_document(document, params.chunk)]
    documents += documents_from_chunks(kept)
    pages = {chunk.document for chunk in [*chunks, *kept]}
    texts = {document.id: document.text for document in documents if document.id in pages}
    sifted = validate_examples(_examples(step), texts, [question.question for question in step.truth], params)
    return Corpus(
        snapshot=_snapshot(step),
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(sorted([*chunks, *kept], key=lambda chunk: chunk.key)),
        examples=sifted.examples,
        orphans=sifted.orphans,
        filtered=sifted.filtered,
        pending_deletions=held,
        waiting=len(held),
    )


def _pairs(step: Step, corpus: Corpus) -> list[TrainingPair]:
    """What the retriever can learn from; no golden question is among it."""
    return build_pairs(corpus.chunks_by_document, corpus.examples, [question.question for question in step.truth])


def _read(kind: type[R], file: Path) -> R | None:
    try:
        return kind.read(file)
    except UserError:
        return None


def _examples(step: Step) -> list[Example]:
    return [
        Example((Message("user", one["prompt"]),), one["completion"], one.get("doc"), f"examples.jsonl:{number}")
        for number, one in enumerate(step.examples, start=1)
    ]


def _snapshot(step: Step) -> Snapshot:
    kb = {name: _md5(text) for name, text in step.documents.items()}
    train = json_digest(sorted(example.digest for example in _examples(step)))
    golden = json_digest([question.model_dump(mode="json") for question in step.truth])
    return compose_snapshot(kb, {"examples.jsonl": train}, {"golden.jsonl": golden})


def _release(snapshot: Snapshot, rows: Rows, model: BuiltModel) -> Release:
    """A release as far as the evidence looks at it."""
    index = BuiltIndex(uri="", version=rows.version, fingerprint="", documents="", rows=0, embedded=0, seconds=0)
    nothing = GoldenSet((), ()).digest()
    none = {"answer_score": _NONE, "retrieval_recall": _NONE, "malformed_share": _NONE}
    card = Scorecard(snapshot=snapshot.id, questions=nothing, index_version=rows.version, adapter=model.adapter, **none)
    return Release(
        snapshot=snapshot,
        index=index,
        model=model,
        decision=Action.REFRESH,
        id="live",
        index_tag=str(rows.version),
        scorecard=card,
        previous=None,
        created="",
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
