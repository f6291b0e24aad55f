"""What does the assistant answer? Retrieval and model together, and each answer kept so that none is computed twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

Asked = TypeVar("Asked")
Said = TypeVar("Said", str, float)
Ask = Callable[[Sequence[Asked], Advance], list[Said]]
Found = tuple[Passage, ...]


@dataclass(frozen=True)
class Answer:
    """An answer and the passages that were before the model when it gave it."""

    text: str
    passages: Found

    @property
    def sources(self) -> tuple[str, ...]:
        """The documents of the passages, most relevant first."""
        return tuple(dict.fromkeys(passage.document for passage in self.passages))


@dataclass(frozen=True)
class CachedRequest(Generic[Asked, Said]):
    """What `ask` is asked, thing by thing: what it says depends on nothing that a thing's key leaves out."""

    label: str
    keys: Sequence[str]
    ask: Ask[Asked, Said]


class Answerer:
    """Asks the generator, and keeps what it says by model, adapter and prompt: a plan's answers serve its run.

    What the judge says of an answer, where there is one, is kept as well.
    """

    def __init__(self, workspace: Workspace, models: Models, progress: Progress, judge: Judge | None = None) -> None:
        self._workspace = workspace
        self._models = models
        self._progress = progress
        self._kept = workspace.state / "answers"
        self._generators: dict[str, Generator] = {}
        self._judge = judge

    @property
    def base(self) -> str:
        """The base model that a retrain would start from."""
        return self._models.generator.base

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        """One answer for each prompt, in order; `label` names the step on the progress bar."""
        keys = [self._key(model, _turns(prompt)) for prompt in prompts]
        generator = self._generator(model)

        def ask(new: Sequence[Prompt], advance: Advance) -> list[str]:
            return generator.generate(new, adapter_folder(self._workspace, model), advance)

        return self._each_once(CachedRequest(label, keys, ask), prompts)

    def warm_up(self, model: BuiltModel) -> None:
        """Have the generator say something that is not kept: what it was asked before would load no weights."""
        prompts = [question_prompt("Are you there?", ())]
        self._generator(model).generate(prompts, adapter_folder(self._workspace, model), lambda _: None)

    def losses(self, label: str, lessons: Sequence[TrainingSample], model: BuiltModel) -> list[float] | None:
        """Each lesson's loss per answer token in nats, in order; None where the generator cannot tell."""
        # A generator of a user's own need not have it.
        losses = getattr(self._generator(model), "losses", None)
        if losses is None:
            return None
        keys = [self._key(model, _turns(lesson.prompt), lesson.completion) for lesson in lessons]

        def ask(new: Sequence[TrainingSample], advance: Advance) -> list[float]:
            return cast("list[float]", losses(new, adapter_folder(self._workspace, model), advance))

        return self._each_once(CachedRequest(label, keys, ask), lessons)

    def opinions(self, claims: Sequence[JudgeRequest]) -> list[float]:
        """How right the judge calls each claim, in order. Raises RefusalError where score.judge names none."""
        judge = self._judge
        if not claims:
            return []
        if judge is None:
            raise UserError("a golden question asks for a judge: name one in params.yaml (score.judge)")
        keys = [json_digest([judge.identity, one.question, one.answer, one.right]) for one in claims]

        def ask(new: Sequence[JudgeRequest], advance: Advance) -> list[float]:
            said = []
            for one in new:
                said.append(judge.judge(one))
                advance(1)
            return said

        return self._each_once(CachedRequest("judging answers", keys, ask), claims)

    def _each_once(self, asking: CachedRequest[Asked, Said], things: Sequence[Asked]) -> list[Said]:
        """What is said to each of `things`, in order; only what was never asked is asked, and then kept."""
        with self._cache() as kept:
            said: dict[str, Said] = {key: kept[key] for key in dict.fromkeys(asking.keys) if key in kept}
            new = {key: thing for key, thing in zip(asking.keys, things, strict=True) if key not in said}
            if new:
                with self._progress(asking.label, len(new)) as advance:
                    said |= dict(zip(new, asking.ask(list(new.values()), advance), strict=True))
                for key in new:
                    kept[key] = said[key]
        return [said[key] for key in asking.keys]

    def _cache(self) -> Cache:
        """What was said before. It can be asked again: where it is damaged, it begins anew."""
        try:
            return Cache(str(self._kept), disk=JSONDisk)
        except sqlite3.OperationalError as problem:
            raise UnavailableError(f"{self._kept} cannot be written: {summarize_error(problem)}") from problem
        except sqlite3.DatabaseError:
            rmtree(self._kept)
            return Cache(str(self._kept), disk=JSONDisk)

    def _generator(self, model: BuiltModel) -> Generator:
        if model.base not in self._generators:
            self._generators[model.base] = load_generator_for(self._workspace, self._models, model)
        return self._generators[model.base]

    def _key(self, model: BuiltModel, *content: object) -> str:
        return json_digest([self._generator(model).identity, model.adapter, FORM, *content])


def _turns(prompt: Prompt) -> list[list[str]]:
    return [[turn.role, turn.content] for turn in prompt]


class Assistant:
    """A release at work: its index and its model, never those of two releases."""

    def __init__(self, release: Release, reader: Retriever, answerer: Answerer, top_k: int) -> None:
        self.release = release
        self._reader = reader
        self._answerer = answerer
        self._top_k = top_k

    @classmethod
    def of(cls, release: Release, workspace: Workspace, models: Models, progress: Progress) -> Assistant:
        """Open a release: its index by its tag and its adapter by its digest."""
        reader = open_built_index(workspace, models.embedder, release.index).retriever(release.index_tag)
        return cls(release, reader, Answerer(workspace, models, progress), workspace.params.index.top_k)

    def warm_up(self) -> None:
        """Have the model loaded. Raises RefusalError where the adapter and the base model do not go together."""
        self._answerer.warm_up(self.release.model)

    def find(self, question: str) -> Found:
        """The passages that are to be before the model, most relevant first."""
        [passages] = self._reader.search([question], self._top_k)
        return tuple(passages)

    def say(self, questions: Sequence[str], found: Sequence[Found]) -> list[Answer]:
        """An answer to each question from what was found for it, in order."""
        pairs = zip(questions, found, strict=True)
        prompts = [question_prompt(question, [one.text for one in passages]) for question, passages in pairs]
        texts = self._answerer.answer("answering", prompts, self.release.model)
        return [Answer(text, passages) for text, passages in zip(texts, found, strict=True)]

    def ask(self, question: str) -> Answer:
        """Answer one question."""
        [answer] = self.say([question], [self.find(question)])
        return answer
