"""Gold passages of a golden question: which of today's chunks support its answer, alone or together.

A question that needs several passages has them in its gold context together, and they count as retrieved only together:
one that is missing is an error of the index, and not of the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.data.stated import is_closed_answer, states_answer
from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.evaluation.scoring import supports_answer
from ragtide.pipelines.index.context import ContextSize, assemble_context
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.training.samples import rank_by_overlap


@dataclass(frozen=True)
class GoldPassages:
    """Today's chunks of a question's documents, in order.

    A live row with the digest of one of them is that passage wherever its document lay; one of the same document with
    another digest is a passage of yesterday.
    """

    question: GoldenQuestion
    chunks: Sequence[Chunk]

    @classmethod
    def of(cls, question: GoldenQuestion, knowledge: KnowledgeBase) -> GoldPassages:
        documents = [knowledge.chunks_by_document.get(document, ()) for document in question.docs]
        return cls(question, [chunk for chunks in documents for chunk in chunks])

    @cached_property
    def passages(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if not chunk.is_overview]

    @cached_property
    def supporting(self) -> list[Chunk]:
        """The passages that support an answer by themselves."""
        return [chunk for chunk in self.passages if supports_answer(chunk.text, self.question)]

    @cached_property
    def together(self) -> list[Chunk]:
        """The passages that support an answer only together, as few as are needed; empty where one does alone."""
        if self.supporting or not _support_together(self.passages, self.question):
            return []
        needed: list[Chunk] = []
        left = self.passages
        while not _support_together(needed, self.question):
            count = _fewest(left, needed, self.question)
            needed, left = [left[count - 1], *needed], left[: count - 1]
        return needed

    def are_in(self, digests: Collection[str]) -> bool:
        """Whether rows with these digests support an answer: one passage, the overview, or several of them together.

        An overview counts, since a model that has it before it has the answer. Where no chunk is known to support one,
        any of them counts.
        """
        present = [chunk for chunk in self.chunks if chunk.digest in digests]
        if not self.supporting and not self.together:
            return bool(present)
        if any(supports_answer(chunk.text, self.question) for chunk in present):
            return True
        return bool(self.together) and _support_together(present, self.question)


def gold_context(
    question: GoldenQuestion, knowledge: KnowledgeBase, passages: int, max_words: int = ChunkParams().max_words
) -> list[str]:
    """Return the texts of a prompt as a search of the question's own documents would give them, its gold among them.

    Up to `passages` are hits, nearest to the question first, to which the context of serving is added; none where the
    question names no documents.
    """
    gold = GoldPassages.of(question, knowledge)
    nearest = rank_by_overlap(question.question, gold.passages)
    alone = {chunk.key for chunk in gold.supporting}
    needed = gold.together or [chunk for chunk in nearest if chunk.key in alone][:1]
    required = {chunk.key for chunk in needed}
    others = [chunk for chunk in nearest if chunk.key not in required][: max(0, passages - len(needed))]
    # What is not among the nearest comes last.
    shown = required | {chunk.key for chunk in others}
    hits = [chunk for chunk in nearest[:passages] if chunk.key in shown]
    hits += [chunk for chunk in needed if chunk not in hits]
    size = ContextSize(max(passages, len(hits)), max_words)
    context = assemble_context(
        question.question, hits, lambda name: knowledge.chunks_by_document.get(name, ()), size, required
    )
    return [chunk.text for chunk in context]


def _fewest(ordered: Sequence[Chunk], needed: Sequence[Chunk], question: GoldenQuestion) -> int:
    """The length of the shortest beginning of `ordered` that supports an answer together with `needed`."""
    low, high = 0, len(ordered)
    while high - low > 1:
        middle = (low + high) // 2
        if _support_together([*ordered[:middle], *needed], question):
            high = middle
        else:
            low = middle
    return high


def _support_together(chunks: Sequence[Chunk], question: GoldenQuestion) -> bool:
    """Whether chunks, in the order of their document, support an answer together, also a passage that was cut."""
    text = "\n".join(
        "\n".join([heading, *(chunk.text.removeprefix(heading).strip("\n") for chunk in under)])
        for heading, under in groupby(chunks, key=lambda chunk: chunk.heading)
    )
    if question.passage:
        return holds_answer(text, [question.passage])
    if question.scorer == "judge" or any(map(is_closed_answer, question.answers)):
        return False
    return any(states_answer(text, answer) for answer in question.answers)
