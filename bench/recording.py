"""Recording of a stream: every action is carried out once from every state in which it can be taken.

An index state is identified by the index's rows, a model state by the training examples, and an embedder state by the
pairs that it was fine-tuned on. For each combination that a policy could have live at a step, the evidence is gathered,
and the results of a refresh, a retrain and an embedder tuning are built with the real LanceDB, training and models.
Policies are then replayed on the recording at no cost (bench/replay.py).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.streams import Step, Stream
from ragtide.pipelines.build import build_model, open_index
from ragtide.pipelines.corpus import Corpus, KnowledgeBase, TrainingSet, documents_from_chunks
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet, split_stale
from ragtide.pipelines.evidence.answer_scores import measure_answers
from ragtide.pipelines.evidence.data_change import describe_data_change
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.evidence.text_signals import measure_text
from ragtide.pipelines.evidence.training_data import measure_training_data
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.history.lost_content import find_emptied, removal_digest
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_index_embedder, load_models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Message, Progress, Prompt, TrainingSample
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record, json_digest
from ragtide.pipelines.records.data import Chunk, Document, Snapshot
from ragtide.pipelines.records.evaluation import RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Costs, Evidence, Limits, Measure
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

# More pairs than any stream has, so that its embedder cannot be fine-tuned: in most streams retrieval is nearly perfect
# without it, and an embedder per step would multiply the states that have to be assessed.
NEVER_ENOUGH = 1_000_000
# Small enough that everything can be built on two cores: short passages, two of them in a prompt.
PARAMS: dict[str, Any] = {
    "chunk": {"max_words": 80},
    "index": {"top_k": 2},
    "generate": {"max_new_tokens": 24},
    "finetune": {"batch_size": 2, "min_steps": 24},
    "deletion_guard": {"max_removed_documents": 3, "max_removed_share": 0.2},
    "embedder_tuning": {"batch_size": NEVER_ENOUGH},
}
# Settings of single streams: an API's new names are not learned in one pass over so few examples; where search does not
# understand the questions' words, the embedder can be fine-tuned, with the default settings.
STREAM_PARAMS: dict[str, dict[str, Any]] = {
    "api": {"finetune": {**PARAMS["finetune"], "epochs": 2}},
    "names": {"embedder_tuning": {}},
}
_NONE = Measure.unmeasured("not asked for")
NO_COSTS = Costs(refresh_seconds=0, retrain_seconds=0, prove_seconds=0, source="")
GOLD, RETRIEVED, LOSSES = (
    "answering with gold context",
    "answering with retrieved passages",
    "reading new examples",
)
TEXT_SIGNALS = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "vocabulary")
VECTOR_SIGNALS = ("novelty",)
ACTIONS = (Action.NOTHING, Action.REFRESH, Action.RETRAIN, Action.REFRESH.with_retrain())
TUNING = (Action.TUNE_EMBEDDER, Action.TUNE_EMBEDDER.with_retrain())
R = TypeVar("R", bound=Record)


class State(Record):
    """The live index, identified by its rows, and the live model and embedder, identified by their training data.

    `tuned_embedder` is empty for the base embedder.
    """

    index: str
    model: str
    tuned_embedder: str = ""

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.index, self.model, self.tuned_embedder)))


class Asked(Record):
    """Keys of the prompts that an assessment sends to the model; a policy pays for the same key only once."""

    retrieved: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


class Seen(Record):
    """Assessment of a state on the data of a step.

    `score` is its quality on the true questions (0-1), `scorecard` that on the golden questions. If the state may be
    live before the step's decision, `evidence` holds its evidence (without costs and history, which depend on the
    policy), and `refreshed`, `retrained` and `tuned` name the index, model and embedder that a refresh, a retrain and
    an embedder tuning lead to. `to_embed` is the number of chunks that the refresh embeds, `all_chunks` that of a
    rebuild; `tuned` is empty if there are too few pairs.
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
        """The actions that can be taken in this state."""
        return (*ACTIONS, *TUNING) if self.tuned else ACTIONS

    def after(self, action: Action) -> State:
        """Return the state that an action leads to; a tuned embedder's index is built from the step's corpus."""
        return State(
            index=self.refreshed if action.refreshes else self.state.index,
            model=self.retrained if action.retrains else self.state.model,
            tuned_embedder=self.tuned if action.tunes else self.state.tuned_embedder,
        )


class RecordedStep(Record):
    """A step of a stream: its description, the right actions, and the states that may be live before or after it."""

    description: str
    right: tuple[Action, ...] | None
    snapshot: str
    seen: dict[str, Seen]


class Recording(Record):
    """A recorded stream. `start` is live at the beginning; `opened` are the prompts of the first release.

    `trained_examples` are the training examples of each model state times the passes over them, `trained_pairs` the
    pairs of each embedder state times the passes.
    """

    name: str
    split: str
    start: State
    opened: Asked
    steps: tuple[RecordedStep, ...]
    trained_examples: dict[str, int]
    seconds: float
    trained_pairs: dict[str, int]


# --- assessing -----------------------------------------------------------------------------------------------------


class RecordingAnswerer(Answerer):
    """An answerer that records the keys of its prompts by label."""

    def __init__(self, workspace: Workspace, models: Models, progress: Progress) -> None:
        super().__init__(workspace, models, progress)
        self._keys: dict[str, list[str]] = {}

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        self._record(label, model, [[[message.content for message in prompt]] for prompt in prompts])
        return super().answer(label, prompts, model)

    def losses(self, label: str, samples: Sequence[TrainingSample], model: BuiltModel) -> list[float] | None:
        texts = [[[message.content for message in sample.prompt], sample.completion] for sample in samples]
        self._record(label, model, texts)
        return super().losses(label, samples, model)

    def _record(self, label: str, model: BuiltModel, texts: Sequence[Any]) -> None:
        self._keys.setdefault(label, []).extend(json_digest([model.adapter, text]) for text in texts)

    def take(self) -> Asked:
        """Return the keys recorded since the last call, without duplicates, and forget them."""
        keys, self._keys = self._keys, {}
        retrieved, gold, losses = (tuple(dict.fromkeys(keys.get(label, ()))) for label in (RETRIEVED, GOLD, LOSSES))
        return Asked(retrieved=retrieved, gold=gold, losses=losses)


class EvaluatorWithoutSearches(Evaluator):
    """An evaluator that does not compare search methods, which only the gate of a tuned embedder needs."""

    def _retrieval_metrics(self, retriever: object) -> dict[str, RetrievalMetrics]:  # noqa: ARG002 - overrides
        return {}


# --- carrying out actions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IndexState:
    """An index state: the version of the table, its documents (name -> digest), and the digests of its chunks."""

    version: int
    documents: dict[str, str]
    digests: frozenset[str]


@dataclass(frozen=True)
class Live:
    """A state with its index, embedder and model."""

    state: State
    rows: IndexState
    index: Index
    tuned_embedder: LoadedEmbedder
    model: BuiltModel

    @property
    def system_under_test(self) -> SystemUnderTest:
        return SystemUnderTest(self.index.retriever(self.rows.version), self.model)


class Stage:
    """A folder in which the actions of one stream are carried out."""

    def __init__(self, stream: Stream, root: Path, progress: Progress) -> None:
        index = {**PARAMS["index"], "uri": str(root / stream.name)}
        params = Params.model_validate({**PARAMS, **STREAM_PARAMS.get(stream.name, {}), "index": index})
        self._stream = stream
        self._space = Workspace(root, params)
        self._models = load_models(params)
        self._answerer = RecordingAnswerer(self._space, self._models, progress)
        self._progress = progress
        # By embedder and content: vectors of two embedders are never mixed.
        self._rows: dict[tuple[str, str], IndexState] = {}
        self._trained: dict[str, BuiltModel] = {}
        self._embedders = {"": LoadedEmbedder(self._models.embedder)}
        self._earlier: list[Mapping[str, str]] = []

    @property
    def params(self) -> Params:
        return self._space.params

    def carry_out(self) -> Recording:
        """Assess every state of every step once."""
        started = time.perf_counter()
        first = corpus_of(self._stream.steps[0], {}, self.params)
        start = State(index=self._refresh(first), model=self._retrain(first))
        opened = self._assess(self._stream.steps[0], start, decide=True).asked
        steps, live = [], {start.key: start}
        for step in self._stream.steps[1:]:
            recorded, live = self._record_step(step, live)
            steps.append(recorded)
            self._earlier.append(_snapshot(step).documents)
        return Recording(
            name=self._stream.name,
            split=self._stream.split,
            start=start,
            opened=opened,
            steps=tuple(steps),
            trained_examples={key: model.trained_examples for key, model in self._trained.items()},
            trained_pairs={
                key: self.params.embedder_tuning.trained_pairs(built.pairs)
                for key, built in self._tuned_embedders().items()
            },
            seconds=round(time.perf_counter() - started, 1),
        )

    def _record_step(self, step: Step, live: dict[str, State]) -> tuple[RecordedStep, dict[str, State]]:
        """Assess the states that may be live before and after a step; also return the latter."""
        seen = {key: self._act(step, self._assess(step, state, decide=True)) for key, state in live.items()}
        reachable = [assessed.after(action) for assessed in seen.values() for action in assessed.actions]
        after = {**live, **{state.key: state for state in reachable}}
        for key, state in after.items():
            if key not in seen:
                seen[key] = self._assess(step, state, decide=False)
        right = tuple(sorted(step.right)) if step.right is not None else None
        snapshot = _snapshot(step).id
        return RecordedStep(description=step.description, right=right, snapshot=snapshot, seen=seen), after

    # --- assessing one state ---------------------------------------------------------------------------------------

    def _assess(self, step: Step, state: State, decide: bool) -> Seen:
        live = self._live(state)
        corpus = self._corpus(step, live)
        golden = split_stale(step.truth, corpus.knowledge.texts)
        tunable = tuning_data(self.params, _pairs(step, corpus), live.tuned_embedder.tuned)
        kind = EvaluatorWithoutSearches if tunable.pairs < tunable.least else Evaluator
        evaluator = kind(corpus.knowledge, golden, self._answerer, self.params)
        self._answerer.take()
        evidence = self._evidence(corpus, live, evaluator, tunable) if decide else None
        scorecard = evaluator.scorecard(live.system_under_test)
        asked = self._answerer.take()
        truth = EvaluatorWithoutSearches(corpus.knowledge, GoldenSet(step.truth, ()), self._answerer, self.params)
        scores = [answer.score for answer in truth.with_retrieval(live.system_under_test)]
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
        rows, embedder = self._rows[state.tuned_embedder, state.index], self._embedders[state.tuned_embedder]
        return Live(state, rows, self._index(state.tuned_embedder), embedder, self._trained[state.model])

    def _corpus(self, step: Step, live: Live) -> Corpus:
        documents = live.rows.documents
        kept = live.index.chunks(documents, live.rows.version)
        return corpus_of(step, documents, self.params, kept, self._earlier)

    def _evidence(self, corpus: Corpus, live: Live, evaluator: Evaluator, tunable: TuningData) -> Evidence:
        index, version, golden = live.index, live.rows.version, evaluator.golden
        then = compose_snapshot(
            live.rows.documents, {"examples.jsonl": live.state.model}, {"golden.jsonl": golden.digest()}
        )
        now = corpus.snapshot.model_copy(update={"questions": then.questions, "golden_id": then.golden_id})
        knowledge, params, watch = replace(corpus.knowledge, snapshot=now), self.params, Stopwatch()
        view = LiveIndexView.of(index, version, knowledge.chunks, golden.questions, params.evidence.old_chunks)
        release, system = _release(then, live.rows, live.model), live.system_under_test
        data = describe_data_change(knowledge, release, index.delta(knowledge.chunks, version))
        scores = measure_answers(evaluator, system, view, params.score, watch)
        text = measure_text(knowledge, view, system.reader, live.tuned_embedder.embedder, params, watch)
        training = measure_training_data(corpus, release, system, evaluator.answerer, tunable, params)
        # Evidence is about the step's snapshot, whatever the questions of its release were.
        data = data.model_copy(update={"snapshot": corpus.snapshot.id})
        limits = Limits(costs=NO_COSTS)
        return Evidence(
            data=data, scores=scores, text=text, training=training, limits=limits, signal_seconds=watch.seconds
        )

    # --- actions in one state --------------------------------------------------------------------------------------

    def _act(self, step: Step, seen: Seen) -> Seen:
        """Build everything that can be built from a state, and note the resulting states in its assessment."""
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

    def _index(self, tuned_embedder: str = "") -> Index:
        return open_index(self._space, self._embedders[tuned_embedder].embedder)

    def _refresh(self, corpus: Corpus, tuned_embedder: str = "") -> str:
        """Refresh the table to a corpus, unless a version of it already holds it; return the state's key."""
        key = json_digest(sorted([chunk.document, chunk.position, chunk.digest] for chunk in corpus.knowledge.chunks))
        if (tuned_embedder, key) not in self._rows:
            index = self._index(tuned_embedder)
            # As in the product, another embedder's index is a new version of the same table.
            built = index.refresh(corpus.knowledge.source, corpus.snapshot.kb_id, self._progress, rebuild=True)
            digests = frozenset(chunk.digest for chunk in corpus.knowledge.chunks)
            self._rows[tuned_embedder, key] = IndexState(built.version, index.documents(built.version), digests)
        return key

    def _tune(self, pairs: Sequence[TrainingPair], live: Live) -> str:
        """Fine-tune on the pairs, unless that was done before; return the state's key, empty for too few pairs."""
        if len(pairs) < tuning_data(self.params, pairs, live.tuned_embedder.tuned).least:
            return ""
        key = json_digest([tuning_settings(self.params), pair_sketch(pairs)])
        if key not in self._embedders:
            built = self._kept_embedder(key) or self._train_embedder(key, pairs, live)
            self._embedders[key] = load_index_embedder(self._space, self._models.embedder, built)
        return key

    def _train_embedder(self, key: str, pairs: Sequence[TrainingPair], live: Live) -> BuiltEmbedder:
        built = build_embedder(self._space, pairs, live.index.retriever(live.rows.version), self._progress)
        built.write(self._embedder_file(key))
        return built

    def _kept_embedder(self, key: str) -> BuiltEmbedder | None:
        """Return an embedder that an interrupted run has tuned on the same pairs."""
        kept = _read(BuiltEmbedder, self._embedder_file(key))
        return kept if kept and (self._space.tuned_embedders / kept.digest).is_dir() else None

    def _embedder_file(self, key: str) -> Path:
        return self._space.state / "tuned" / f"{key}.json"

    def _tuned_embedders(self) -> dict[str, BuiltEmbedder]:
        return {key: loaded.tuned for key, loaded in self._embedders.items() if loaded.tuned}

    def _retrain(self, corpus: Corpus) -> str:
        """Train on the corpus's examples, unless that was done before (the same examples give the same adapter)."""
        key = json_digest(sorted(example.digest for example in corpus.training.examples))
        too_few = len(corpus.training.examples) < self.params.finetune.min_examples
        if self._trained and key not in self._trained and too_few:
            return next(reversed(self._trained))
        if key not in self._trained:
            self._trained[key] = self._kept(key) or self._train(key, corpus)
        return key

    def _train(self, key: str, corpus: Corpus) -> BuiltModel:
        retriever = self._index().retriever(self._rows["", self._refresh(corpus)].version)
        built, _ = build_model(self._space, self._models, corpus, retriever, self._progress)
        built.write(self._model_file(key))
        return built

    def _kept(self, key: str) -> BuiltModel | None:
        """Return an adapter that another stream, or an interrupted run, has trained on the same examples."""
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
    """Return the corpus of a step's data; documents whose removal is pending stay as the rows hold them.

    `earlier` are the documents (name -> digest) of the previous steps.
    """
    documents = [Document(id=name, text=text, digest=_md5(text)) for name, text in sorted(step.documents.items())]
    deleted = find_deleted(indexed, {document.id: document.digest for document in documents}, (), earlier)
    chunks = [chunk for document in documents for chunk in chunk_document(document, params.chunk)]
    changed = [chunk for chunk in chunks if indexed.get(chunk.document) != chunk.document_digest]
    after, live = InMemorySource.of(changed).by_document, InMemorySource.of(rows).by_document
    emptied = find_emptied({name: live[name] for name in after.keys() & live.keys()}, after)
    removals = deleted | {name: removal_digest(indexed[name], after[name][0].document_digest) for name in emptied}
    pending = pending_deletions(removals, len(indexed), (), params.deletion_guard)
    kept = [chunk for chunk in rows if chunk.document in pending]
    chunks = [chunk for chunk in chunks if chunk.document not in pending]
    documents = [document for document in documents if document.id not in pending] + documents_from_chunks(kept)
    pages = {chunk.document for chunk in [*chunks, *kept]}
    texts = {document.id: document.text for document in documents if document.id in pages}
    validated = validate_examples(_examples(step), texts, [question.question for question in step.truth], params)
    knowledge = KnowledgeBase(
        snapshot=_snapshot(step),
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(sorted([*chunks, *kept], key=lambda chunk: chunk.key)),
        pending_deletions=pending,
        waiting=len(pending),
    )
    return Corpus(knowledge, TrainingSet(validated.examples, validated.orphans, validated.filtered))


def _pairs(step: Step, corpus: Corpus) -> list[TrainingPair]:
    """Return the pairs for tuning the embedder, without those of golden questions."""
    golden = [question.question for question in step.truth]
    return build_pairs(corpus.knowledge.chunks_by_document, corpus.training.examples, golden)


def _read(kind: type[R], file: Path) -> R | None:
    try:
        return kind.read(file)
    except UserError:
        return None


def _examples(step: Step) -> list[Example]:
    return [
        Example((Message("user", line["prompt"]),), line["completion"], line.get("doc"), f"examples.jsonl:{number}")
        for number, line in enumerate(step.examples, start=1)
    ]


def _snapshot(step: Step) -> Snapshot:
    kb = {name: _md5(text) for name, text in step.documents.items()}
    train = json_digest(sorted(example.digest for example in _examples(step)))
    golden = json_digest([question.model_dump(mode="json") for question in step.truth])
    return compose_snapshot(kb, {"examples.jsonl": train}, {"golden.jsonl": golden})


def _release(snapshot: Snapshot, rows: IndexState, model: BuiltModel) -> Release:
    """Return a release with the fields that the evidence reads."""
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
