"""Assistant: retrieval and model of one release, with a cache of answers, losses and judge scores."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Generic, TypeVar, cast

from diskcache import Cache, JSONDisk

from ragtide.pipelines.build import load_generator_for, open_built_index
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.models.adapters import adapter_folder
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.models.prompts import FORM, question_prompt
from ragtide.pipelines.ports import Advance, Generator, Judge, JudgeRequest, Progress, Prompt, TrainingSample
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.workspace import Workspace

Input = TypeVar("Input")
Output = TypeVar("Output", str, float)
Passages = tuple[Passage, ...]
SECONDS_PER_DAY = 86_400
# A question whose answer nobody needs: it makes the models load.
WARM_UP_QUESTION = "Are you there?"


@dataclass(frozen=True)
class Answer:
    """An answer and the passages that the model had as context."""

    text: str
    passages: Passages

    @property
    def sources(self) -> tuple[str, ...]:
        """The documents of the passages, most relevant first."""
        return tuple(dict.fromkeys(passage.document for passage in self.passages))


@dataclass(frozen=True)
class CachedRequest(Generic[Input, Output]):
    """A computation over a batch of inputs; `keys` has one cache key per input, which determines its output."""

    label: str
    keys: Sequence[str]
    compute: Callable[[Sequence[Input], Advance], list[Output]]


@dataclass
class AnsweringWork:
    """The answers, losses and judge scores that were computed since the last reset, and the seconds that they took."""

    count: int = 0
    seconds: float = 0.0

    def reset(self) -> None:
        self.count, self.seconds = 0, 0.0

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        """Count `count` computed ones and the seconds of the block."""
        started = time.perf_counter()
        yield
        self.count += count
        self.seconds += time.perf_counter() - started


class Answerer:
    """Runs the generator and caches its output by model, adapter and prompt: a plan's answers serve its run.

    Losses, and the scores of the judge where there is one, are cached as well.
    """

    def __init__(
        self,
        workspace: Workspace,
        models: Models,
        progress: Progress,
        judge: Judge | None = None,
        work: AnsweringWork | None = None,
    ) -> None:
        self._workspace = workspace
        self._models = models
        self._progress = progress
        self._cache_folder = workspace.answers
        self._generators: dict[str, Generator] = {}
        self._judge = judge
        self._work = work or AnsweringWork()

    @property
    def base(self) -> str:
        """The base model that a retrain would start from."""
        return self._models.generator.base

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        """Return one answer per prompt, in order; `label` names the step on the progress bar."""
        keys = [self._key(model, _messages(prompt)) for prompt in prompts]
        generator = self._generator(model)

        def generate(uncached: Sequence[Prompt], advance: Advance) -> list[str]:
            return generator.generate(uncached, adapter_folder(self._workspace, model), advance)

        return self._through_cache(CachedRequest(label, keys, generate), prompts)

    def warm_up(self, model: BuiltModel) -> None:
        """Generate one answer that bypasses the cache: a cached one would not load the weights."""
        prompts = [question_prompt(WARM_UP_QUESTION, ())]
        self._generator(model).generate(prompts, adapter_folder(self._workspace, model), lambda _: None)

    def losses(self, label: str, samples: Sequence[TrainingSample], model: BuiltModel) -> list[float] | None:
        """Return each sample's loss per answer token in nats, in order; None where the generator reports no losses."""
        # A custom generator may lack this method.
        losses = getattr(self._generator(model), "losses", None)
        if losses is None:
            return None
        keys = [self._key(model, _messages(sample.prompt), sample.completion) for sample in samples]

        def compute(uncached: Sequence[TrainingSample], advance: Advance) -> list[float]:
            return cast("list[float]", losses(uncached, adapter_folder(self._workspace, model), advance))

        return self._through_cache(CachedRequest(label, keys, compute), samples)

    def judge_scores(self, requests: Sequence[JudgeRequest]) -> list[float]:
        """Return the judge's score (0 to 1) of each answer, in order. Raises UserError where score.judge is not set."""
        judge = self._judge
        if not requests:
            return []
        if judge is None:
            raise UserError("a golden question needs a judge: set score.judge in params.yaml to a model")
        keys = [json_digest([judge.identity, request.question, request.answer, request.right]) for request in requests]

        def compute(uncached: Sequence[JudgeRequest], advance: Advance) -> list[float]:
            scores = []
            for request in uncached:
                scores.append(judge.judge(request))
                advance(1)
            return scores

        return self._through_cache(CachedRequest("judging answers", keys, compute), requests)

    def _through_cache(self, request: CachedRequest[Input, Output], inputs: Sequence[Input]) -> list[Output]:
        """Return the output for each of `inputs`, in order; only what is not cached is computed, and then cached."""
        with _open_cache(self._cache_folder) as cache:
            outputs: dict[str, Output] = {key: cache[key] for key in dict.fromkeys(request.keys) if key in cache}
            uncached = {key: value for key, value in zip(request.keys, inputs, strict=True) if key not in outputs}
            if uncached:
                with self._work.timed(len(uncached)), self._progress(request.label, len(uncached)) as advance:
                    computed = request.compute(list(uncached.values()), advance)
                outputs |= dict(zip(uncached, computed, strict=True))
                days = self._workspace.params.retention.answers_days
                for key in uncached:
                    cache.set(key, outputs[key], expire=days and days * SECONDS_PER_DAY)
        return [outputs[key] for key in request.keys]

    def _generator(self, model: BuiltModel) -> Generator:
        if model.base not in self._generators:
            self._generators[model.base] = load_generator_for(self._workspace, self._models, model)
        return self._generators[model.base]

    def _key(self, model: BuiltModel, *content: object) -> str:
        return json_digest([self._generator(model).identity, model.adapter, FORM, *content])


def expire_answers(workspace: Workspace, days: float, dry_run: bool = False) -> int:
    """Delete cached answers that are older than `days`, or with `dry_run` only count them; returns how many.

    An entry without an end, as earlier versions wrote them, or with one too far away gets one in `days`.
    """
    if not workspace.answers.is_dir():
        return 0
    with _open_cache(workspace.answers) as cache:
        latest = time.time() + days * SECONDS_PER_DAY
        expired = 0
        for key in list(cache):
            value, end = cache.get(key, expire_time=True)
            if value is None:
                expired += 1
            elif not dry_run and (end is None or end > latest):
                cache.touch(key, expire=days * SECONDS_PER_DAY)
        if not dry_run:
            cache.expire()
    return expired


def _open_cache(folder: Path) -> Cache:
    """Open the cache; a damaged one is deleted, since everything in it can be computed again."""
    try:
        return Cache(str(folder), disk=JSONDisk)
    except sqlite3.OperationalError as problem:
        raise UnavailableError(
            f"the answer cache {folder} cannot be written: {summarize_error(problem)}; "
            "check its permissions and the free disk space"
        ) from problem
    except sqlite3.DatabaseError:
        rmtree(folder)
        return Cache(str(folder), disk=JSONDisk)


def _messages(prompt: Prompt) -> list[list[str]]:
    return [[message.role, message.content] for message in prompt]


class Assistant:
    """One release that answers questions with its own index and its own model, never those of two releases."""

    def __init__(self, release: Release, retriever: Retriever, answerer: Answerer, top_k: int) -> None:
        self.release = release
        self._retriever = retriever
        self._answerer = answerer
        self._top_k = top_k

    @classmethod
    def of(cls, release: Release, workspace: Workspace, models: Models, progress: Progress) -> Assistant:
        """Open a release: its index by its tag and its adapter by its digest."""
        retriever = open_built_index(workspace, models.embedder, release.index).retriever(release.index_tag)
        return cls(release, retriever, Answerer(workspace, models, progress), workspace.params.index.top_k)

    def warm_up(self) -> None:
        """Load the model. Raises UserError where the adapter does not fit the base model, or either is missing."""
        self._answerer.warm_up(self.release.model)

    def retrieve(self, question: str) -> Passages:
        """Return the passages that the model gets as context, most relevant first."""
        [passages] = self._retriever.contexts([question], self._top_k)
        return tuple(passages)

    def generate(self, questions: Sequence[str], contexts: Sequence[Passages]) -> list[Answer]:
        """Return an answer to each question from its passages, in order."""
        pairs = zip(questions, contexts, strict=True)
        prompts = [question_prompt(question, [passage.text for passage in passages]) for question, passages in pairs]
        texts = self._answerer.answer("answering", prompts, self.release.model)
        return [Answer(text, passages) for text, passages in zip(texts, contexts, strict=True)]

    def ask(self, question: str) -> Answer:
        """Answer one question."""
        [answer] = self.generate([question], [self.retrieve(question)])
        return answer
