"""What does the assistant answer? Retrieval and model together, and each answer kept so that none is computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diskcache import Cache, JSONDisk

from pipelines.build.candidate import adapter_folder, index_of
from pipelines.build.models import Models
from pipelines.build.prompts import FORM, question_prompt
from pipelines.build.search import Passage, Reader
from pipelines.ports import Progress, Prompt
from pipelines.records import BuiltModel, Release, digest_of
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Answer:
    """An answer and the passages that were before the model when it gave it."""

    text: str
    passages: tuple[Passage, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The documents of the passages, most relevant first."""
        return tuple(dict.fromkeys(passage.document for passage in self.passages))


class Answerer:
    """Asks the generator, and keeps each answer by model, adapter and prompt: a plan's answers serve its run."""

    def __init__(self, workspace: Workspace, models: Models, progress: Progress) -> None:
        self._workspace = workspace
        self._models = models
        self._progress = progress
        self._kept = workspace.state / "answers"

    def answer(self, label: str, prompts: Sequence[Prompt], model: BuiltModel) -> list[str]:
        """One answer for each prompt, in order; `label` names the step on the progress bar."""
        keys = [self._key(prompt, model) for prompt in prompts]
        with Cache(str(self._kept), disk=JSONDisk) as kept:
            answers: dict[str, str] = {key: kept[key] for key in dict.fromkeys(keys) if key in kept}
            new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in answers}
            if new:
                folder = adapter_folder(self._workspace, model)
                said = self._ask(label, list(new.values()), folder)
                answers |= dict(zip(new, said, strict=True))
                for key in new:
                    kept[key] = answers[key]
        return [answers[key] for key in keys]

    def _ask(self, label: str, prompts: list[Prompt], folder: Path | None) -> list[str]:
        with self._progress(label, len(prompts)) as advance:
            return self._models.generator.generate(prompts, folder, advance)

    def _key(self, prompt: Prompt, model: BuiltModel) -> str:
        turns = [[turn.role, turn.content] for turn in prompt]
        return digest_of([self._models.generator.identity, model.adapter, FORM, turns])


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
