"""What does the assistant answer? Retrieval and model together, and each answer kept so that none is computed twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from diskcache import Cache, JSONDisk

from pipelines.build.candidate import adapter_folder, index_of
from pipelines.build.models import Models
from pipelines.build.prompts import FORM, question_prompt
from pipelines.build.search import Passage, Reader
from pipelines.ports import Advance, Lesson, Progress, Prompt
from pipelines.records import BuiltModel, Release, digest_of
from pipelines.workspace import Workspace

Asked = TypeVar("Asked")
Said = TypeVar("Said", str, float)
Ask = Callable[[Sequence[Asked], Path | None, Advance], list[Said]]


@dataclass(frozen=True)
class Answer:
    """An answer and the passages that were before the model when it gave it."""

    text: str
    passages: tuple[Passage, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The documents of the passages, most relevant first."""
        return tuple(dict.fromkeys(passage.document for passage in self.passages))


@dataclass(frozen=True)
class Asking(Generic[Asked, Said]):
    """What `ask` is asked of `model`, thing by thing: what it says depends on nothing that a thing's key leaves out."""

    label: str
    keys: Sequence[str]
    model: BuiltModel
    ask: Ask[Asked, Said]


class Answerer:
    """Asks the generator, and keeps what it says by model, adapter and prompt: a plan's answers serve its run."""

    def __init__(self, workspace: Workspace, models: Models, progress: Progress) -> None:
        self._workspace = workspace
        self._models = models
        self._progress = progress
        self._kept = workspace.state / "answers"

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        """One answer for each prompt, in order; `label` names the step on the progress bar."""
        keys = [self._key(model, _turns(prompt)) for prompt in prompts]
        return self._each_once(Asking(label, keys, model, self._models.generator.generate), prompts)

    def losses(self, label: str, lessons: Sequence[Lesson], model: BuiltModel) -> list[float] | None:
        """Each lesson's loss per answer token in nats, in order; None where the generator cannot tell."""
        # A generator of a user's own need not have it.
        ask: Ask[Lesson, float] | None = getattr(self._models.generator, "losses", None)
        if ask is None:
            return None
        keys = [self._key(model, _turns(lesson.prompt), lesson.completion) for lesson in lessons]
        return self._each_once(Asking(label, keys, model, ask), lessons)

    def _each_once(self, asking: Asking[Asked, Said], things: Sequence[Asked]) -> list[Said]:
        """What is said to each of `things`, in order; only what was never asked is asked, and then kept."""
        with Cache(str(self._kept), disk=JSONDisk) as kept:
            said: dict[str, Said] = {key: kept[key] for key in dict.fromkeys(asking.keys) if key in kept}
            new = {key: thing for key, thing in zip(asking.keys, things, strict=True) if key not in said}
            if new:
                folder = adapter_folder(self._workspace, asking.model)
                with self._progress(asking.label, len(new)) as advance:
                    said |= dict(zip(new, asking.ask(list(new.values()), folder, advance), strict=True))
                for key in new:
                    kept[key] = said[key]
        return [said[key] for key in asking.keys]

    def _key(self, model: BuiltModel, *content: object) -> str:
        return digest_of([self._models.generator.identity, model.adapter, FORM, *content])


def _turns(prompt: Prompt) -> list[list[str]]:
    return [[turn.role, turn.content] for turn in prompt]


class Assistant:
    """A release at work: its index and its model, never those of two releases."""

    def __init__(self, reader: Reader, model: BuiltModel, answerer: Answerer, top_k: int) -> None:
        self._reader = reader
        self._model = model
        self._answerer = answerer
        self._top_k = top_k

    @classmethod
    def of(cls, release: Release, workspace: Workspace, models: Models, progress: Progress) -> Assistant:
        """Open a release: its index by its tag and its adapter by its digest."""
        reader = index_of(workspace, models.embedder, release.index).reader(release.index_tag)
        return cls(reader, release.model, Answerer(workspace, models, progress), workspace.params.index.top_k)

    def ask(self, question: str) -> Answer:
        """Answer one question."""
        [passages] = self._reader.search([question], self._top_k)
        prompt = question_prompt(question, [passage.text for passage in passages])
        [text] = self._answerer.answer("answering", [prompt], self._model)
        return Answer(text=text, passages=tuple(passages))
