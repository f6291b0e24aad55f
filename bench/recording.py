"""Recording of a stream: every action is carried out once from every state in which it can be taken.

An index state is identified by the index's rows, a model state by the training examples, and an embedder state by the
pairs that it was fine-tuned on. For each combination that a policy could have live at a step, the evidence is gathered,
and the results of a refresh, a retrain and an embedder tuning are built with the real LanceDB, training and models.
Policies are then replayed on the recording at no cost (bench/replay.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.outcomes import carry_out
from bench.recorded_states import BASE, Asked, RecordedStep, Recording, Seen, State
from bench.remembered import CpuStopwatch, RememberedSearches, RememberingEmbedder
from bench.step_corpus import corpus_of, digests_of, golden_of, pairs_of, snapshot_of
from bench.streams import Step, Stream
from ragtide.pipelines.build import base_model_only, build_model, open_index
from ragtide.pipelines.corpus import Corpus, KnowledgeBase
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet, split_stale
from ragtide.pipelines.evidence.answer_scores import measure_answers
from ragtide.pipelines.evidence.data_change import describe_data_change
from ragtide.pipelines.evidence.live_index import LiveIndexView
from ragtide.pipelines.evidence.text_signals import measure_text
from ragtide.pipelines.evidence.training_data import measure_training_data
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_index_embedder, load_models
from ragtide.pipelines.params import Params
from ragtide.pipelines.policy.rules import deleted_in_index, lost_golden
from ragtide.pipelines.ports import Progress, Prompt, TrainingSample
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record, json_digest
from ragtide.pipelines.records.data import Chunk, Snapshot
from ragtide.pipelines.records.evaluation import GoldenQuestion, RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Costs, Evidence, GoldenLosses, Limits, Measure, TextSignals
from ragtide.pipelines.records.release import BuiltEmbedder, BuiltIndex, BuiltModel, Release
from ragtide.pipelines.training.embedder_tuning import (
    TuningData,
    build_embedder,
    pair_sketch,
    tuning_data,
    tuning_settings,
)
from ragtide.pipelines.training.pairs import TrainingPair
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
TEXT_SIGNALS = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "vocabulary", "captured_questions")
VECTOR_SIGNALS = ("novelty",)
R = TypeVar("R", bound=Record)


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
    retriever: Retriever

    @property
    def system_under_test(self) -> SystemUnderTest:
        return SystemUnderTest(self.retriever, self.model)


class Stage:
    """A folder in which the actions of one stream are carried out."""

    def __init__(self, stream: Stream, root: Path, progress: Progress) -> None:
        self._stream = stream
        self._questions = _questions_of(stream)
        self._space = Workspace(root, params_of(stream, root))
        params = self._space.params
        self._models = load_models(params)
        self._answerer = RecordingAnswerer(self._space, self._models, progress)
        self._progress = progress
        # By embedder and content: vectors of two embedders are never mixed.
        self._rows: dict[tuple[str, str], IndexState] = {}
        self._trained: dict[str, BuiltModel] = {}
        self._embedders = {"": LoadedEmbedder(self._models.embedder)}
        self._base = base_model_only(self._models)
        self._retrievers: dict[tuple[str, str], Retriever] = {}
        self._remembering: dict[str, RememberingEmbedder] = {}
        # What is alike for all models of an index, by embedder and index, at the present step.
        self._corpora: dict[tuple[str, str], Corpus] = {}
        self._texts: dict[tuple[str, str], tuple[TextSignals, dict[str, float]]] = {}
        self._earlier: list[Mapping[str, str]] = []
        self._asked_before: tuple[GoldenQuestion, ...] = ()

    @property
    def params(self) -> Params:
        return self._space.params

    def carry_out(self) -> Recording:
        """Assess every state of every step once."""
        started, first = time.perf_counter(), self._stream.steps[0]
        corpus = corpus_of(first, {}, self.params)
        start = State(index=self._refresh(corpus), model=self._retrain(corpus))
        opened = self._assess(first, start, decide=True).asked
        # The proof of the first release has asked the base model as well.
        base = self._assess(first, start.with_base_model, decide=False).asked
        opened = opened.model_copy(update={"retrieved": (*opened.retrieved, *base.retrieved)})
        steps, live = [], {start.key: start}
        self._passed(first)
        for number, step in enumerate(self._stream.steps[1:], start=1):
            recorded, live = self._record_step(step, live)
            steps.append(recorded)
            self._passed(step)
            seconds, of = time.perf_counter() - started, f"{number} of {len(self._stream.steps) - 1}"
            sys.stderr.write(f"{self._stream.name}, step {of}: {len(recorded.seen)} states, {seconds:.0f} s\n")
        return Recording(
            name=self._stream.name,
            split=self._stream.split,
            start=start,
            opened=opened,
            steps=tuple(steps),
            trained_examples={key: model.trained_examples for key, model in self._trained.items()},
            trained_tokens={key: model.trained_tokens for key, model in self._trained.items()},
            trained_pairs={
                key: self.params.embedder_tuning.trained_pairs(built.pairs)
                for key, built in self._tuned_embedders().items()
            },
            seconds=round(time.perf_counter() - started, 1),
            simulated=self._stream.simulated,
        )

    def _passed(self, step: Step) -> None:
        """Remember what later steps are compared with."""
        self._earlier.append(digests_of(step))
        self._asked_before = step.truth
        self._corpora, self._texts = {}, {}

    def _record_step(self, step: Step, live: dict[str, State]) -> tuple[RecordedStep, dict[str, State]]:
        """Assess the states that may be live before and after a step; also return the latter."""
        seen = {key: self._act(step, self._assess(step, state, decide=True)) for key, state in live.items()}
        candidates = [origin.after(action) for origin in seen.values() for action in origin.actions]
        # Each candidate's adapter is compared with the base model on the same index.
        self._assess_missing(step, seen, [*candidates, *(state.with_base_model for state in candidates)])
        for key in live:
            seen[key] = self._removal(step, seen, seen[key])
        self._assess_missing(step, seen, [seen[key].after(Action.REMOVE) for key in live if seen[key].removed])
        origins = [seen[key] for key in live]
        outcomes = [carry_out(action, origin, seen, self.params) for origin in origins for action in origin.actions]
        released = [result.live.state for results in outcomes for result in results]
        after = {**live, **{state.key: state for state in (*candidates, *released)}}
        for key, state in after.items():
            score = self._score(self._corpus(step, self._live(state)), self._live(state), step.changed_facts)
            seen[key] = seen[key].model_copy(update={"changed_score": score})
        right = tuple(sorted(step.right)) if step.right is not None else None
        snapshot = snapshot_of(step).id
        return RecordedStep(description=step.description, right=right, snapshot=snapshot, seen=seen), after

    def _assess_missing(self, step: Step, seen: dict[str, Seen], states: Sequence[State]) -> None:
        for state in states:
            if state.key not in seen:
                seen[state.key] = self._assess(step, state, decide=False)

    def _removal(self, step: Step, seen: Mapping[str, Seen], origin: Seen) -> Seen:
        """Build the live index without deleted documents where it may become live: the gate rejects what is new, or
        too many golden questions went with them."""
        assert origin.evidence is not None
        data = origin.evidence.data
        if not deleted_in_index(data):
            return origin
        index_actions = [action for action in origin.actions if action.refreshes]
        results = [result for action in index_actions for result in carry_out(action, origin, seen, self.params)[:1]]
        if lost_golden(data) is None and all(result.is_released for result in results):
            return origin
        live = self._live(origin.state)
        deleted = self._corpus(step, live).knowledge.deleted
        staying = live.index.chunks(sorted(live.rows.documents.keys() - deleted.keys()), live.rows.version)
        return origin.model_copy(update={"removed": self._build(staying, origin.state.tuned_embedder, "removal")})

    # --- assessing one state ---------------------------------------------------------------------------------------

    def _assess(self, step: Step, state: State, decide: bool) -> Seen:
        live = self._live(state)
        corpus = self._corpus(step, live)
        golden = split_stale(golden_of(step, corpus.knowledge.paths), corpus.knowledge.texts)
        tunable = tuning_data(self.params, pairs_of(step, corpus), live.tuned_embedder.tuned)
        kind = EvaluatorWithoutSearches if tunable.pairs < tunable.least else Evaluator
        evaluator = kind(corpus.knowledge, golden, self._answerer, self.params)
        self._answerer.take()
        evidence = self._evidence(corpus, live, evaluator, tunable) if decide else None
        scorecard = evaluator.scorecard(live.system_under_test)
        asked = self._answerer.take()
        score = self._score(corpus, live, step.truth)
        assert score is not None
        seconds = evidence.signal_seconds if evidence else {}
        return Seen(
            state=state,
            score=score,
            scorecard=scorecard,
            asked=asked,
            evidence=evidence,
            text_seconds=round(sum(seconds.get(name, 0.0) for name in TEXT_SIGNALS), 3),
            vector_seconds=round(sum(seconds.get(name, 0.0) for name in VECTOR_SIGNALS), 3),
        )

    def _score(self, corpus: Corpus, live: Live, questions: Sequence[GoldenQuestion]) -> float | None:
        """Return the mean score on questions that users ask (0-1); None where there are none."""
        asked = GoldenSet(tuple(questions), ())
        evaluator = EvaluatorWithoutSearches(corpus.knowledge, asked, self._answerer, self.params)
        scores = [answer.score for answer in evaluator.with_retrieval(live.system_under_test)] if questions else []
        return round(sum(scores) / len(scores), 6) if scores else None

    def _live(self, state: State) -> Live:
        rows, embedder = self._rows[state.tuned_embedder, state.index], self._embedders[state.tuned_embedder]
        model = self._base if state.model == BASE else self._trained[state.model]
        retriever = self._retriever(state.tuned_embedder, state.index)
        return Live(state, rows, self._index(state.tuned_embedder), embedder, model, retriever)

    def _retriever(self, tuned_embedder: str, index: str) -> Retriever:
        key = (tuned_embedder, index)
        if key not in self._retrievers:
            self._retrievers[key] = RememberedSearches.of(self._searching(tuned_embedder, index))
        return self._retrievers[key]

    def _searching(self, tuned_embedder: str, index: str) -> Retriever:
        """Return a retriever that searches each time."""
        embedder = self._embedders[tuned_embedder].embedder
        remembering = self._remembering.setdefault(tuned_embedder, RememberingEmbedder(embedder, self._questions))
        return open_index(self._space, remembering).retriever(self._rows[tuned_embedder, index].version)

    def _corpus(self, step: Step, live: Live) -> Corpus:
        key = (live.state.tuned_embedder, live.state.index)
        if key not in self._corpora:
            documents = live.rows.documents
            kept = live.index.chunks(documents, live.rows.version)
            self._corpora[key] = corpus_of(step, documents, self.params, kept, self._earlier)
        return self._corpora[key]

    def _evidence(self, corpus: Corpus, live: Live, evaluator: Evaluator, tunable: TuningData) -> Evidence:
        index, version, golden = live.index, live.rows.version, evaluator.golden
        then = compose_snapshot(
            live.rows.documents, {"examples.jsonl": live.state.model}, {"golden.jsonl": golden.digest()}
        )
        trained = {"examples.jsonl": _examples_key(corpus)}
        same = {"questions": then.questions, "golden_id": then.golden_id, "examples": trained}
        knowledge = replace(corpus.knowledge, snapshot=corpus.snapshot.model_copy(update=same))
        params, watch, release = self.params, CpuStopwatch(), _release(then, live.rows, live.model)
        view = LiveIndexView.of(index, version, knowledge.chunks, golden.questions, params.evidence.old_chunks)
        system, delta = live.system_under_test, index.delta(knowledge.chunks, version, knowledge.paths.moves)
        deleted = _deleted_sources(live.model, corpus) if delta.documents_deleted else ()
        losses = self._golden_losses(corpus, golden)
        data = describe_data_change(knowledge, release, delta, (), deleted, losses)
        scores = measure_answers(evaluator, system, view, params.score, watch)
        text = self._text(live, knowledge, view, watch)
        training = measure_training_data(corpus, release, system, evaluator.answerer, tunable, params)
        # Evidence is about the step's snapshot, whatever the questions of its release were.
        data = data.model_copy(update={"snapshot": corpus.snapshot.id})
        limits = Limits(costs=NO_COSTS)
        return Evidence(
            data=data, scores=scores, text=text, training=training, limits=limits, signal_seconds=watch.seconds
        )

    def _text(self, live: Live, knowledge: KnowledgeBase, view: LiveIndexView, watch: CpuStopwatch) -> TextSignals:
        """Measure the signals of the text once for each index, and add their seconds."""
        key, embedder = (live.state.tuned_embedder, live.state.index), live.tuned_embedder.embedder
        if key not in self._texts:
            own, searching = CpuStopwatch(), self._searching(*key)
            self._texts[key] = measure_text(knowledge, view, searching, embedder, self.params, own), own.seconds
        text, seconds = self._texts[key]
        watch.seconds |= seconds
        return text

    def _golden_losses(self, corpus: Corpus, golden: GoldenSet) -> GoldenLosses:
        """Return the questions of the step before that deletions put out of play, or would once they are approved."""
        knowledge, asked = corpus.knowledge, {question.id for question in self._asked_before}
        remaining = {name: text for name, text in knowledge.texts.items() if name not in knowledge.pending_deletions}
        pending = split_stale(golden.questions, {**remaining, **knowledge.lost.texts}).stale
        return GoldenLosses(
            in_play=len(asked),
            lost=tuple(sorted(asked & {*golden.stale})),
            pending=tuple(sorted(asked & {*pending})) if knowledge.pending_deletions else (),
        )

    # --- actions in one state --------------------------------------------------------------------------------------

    def _act(self, step: Step, seen: Seen) -> Seen:
        """Build everything that can be built from a state, and note the resulting states in its assessment."""
        live = self._live(seen.state)
        corpus = self._corpus(step, live)
        refreshed, tuned = self._refresh(corpus, seen.state.tuned_embedder), self._tune(pairs_of(step, corpus), live)
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
        return self._build(corpus.knowledge.chunks, tuned_embedder, corpus.snapshot.kb_id)

    def _build(self, chunks: Sequence[Chunk], tuned_embedder: str, documents: str) -> str:
        key = json_digest(sorted([chunk.document, chunk.position, chunk.digest] for chunk in chunks))
        if (tuned_embedder, key) not in self._rows:
            index = self._index(tuned_embedder)
            # As in the product, another embedder's index is a new version of the same table.
            built = index.refresh(InMemorySource.of(chunks), documents, self._progress, rebuild=True)
            digests = frozenset(chunk.digest for chunk in chunks)
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
        key = _examples_key(corpus)
        too_few = len(corpus.training.examples) < self.params.finetune.min_examples
        if self._trained and key not in self._trained and too_few:
            return next(reversed(self._trained))
        if key not in self._trained:
            self._trained[key] = self._kept(key) or self._train(key, corpus)
        return key

    def _train(self, key: str, corpus: Corpus) -> BuiltModel:
        retriever = self._retriever("", self._refresh(corpus))
        built, _ = build_model(self._space, self._models, corpus, retriever, self._progress)
        built.write(self._model_file(key))
        return built

    def _kept(self, key: str) -> BuiltModel | None:
        """Return an adapter that another stream, or an interrupted run, has trained on the same examples."""
        kept = _read(BuiltModel, self._model_file(key))
        return kept if kept and (self._space.adapters / str(kept.adapter)).is_dir() else None

    def _model_file(self, key: str) -> Path:
        return self._space.state / "models" / f"{key}.json"


def _questions_of(stream: Stream) -> frozenset[str]:
    """Return the wordings of everything that is asked in a stream."""
    asked = [question for step in stream.steps for question in (*step.truth, *step.changed_facts)]
    prompts = [line["prompt"] for step in stream.steps for line in step.examples]
    return frozenset([*prompts, *(question.question for question in asked)])


def params_of(stream: Stream, root: Path) -> Params:
    """Return the settings of a stream's project in a folder."""
    blocks = {**PARAMS, **STREAM_PARAMS.get(stream.name, {})}
    merged = {name: {**blocks.get(name, {}), **stream.params.get(name, {})} for name in {*blocks, *stream.params}}
    return Params.model_validate({**merged, "index": {**merged["index"], "uri": str(root / stream.name)}})


def _examples_key(corpus: Corpus) -> str:
    """Return the key of the model that a retrain leads to: the same examples give the same adapter."""
    return json_digest(sorted(example.digest for example in corpus.training.examples))


def _deleted_sources(model: BuiltModel, corpus: Corpus) -> tuple[str, ...]:
    """Return the deleted documents that state an answer on which the model was trained."""
    paths = corpus.knowledge.paths
    return tuple(name for name in model.source_documents if paths.current(name) not in paths.documents)


def _read(kind: type[R], file: Path) -> R | None:
    try:
        return kind.read(file)
    except UserError:
        return None


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
