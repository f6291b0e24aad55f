"""What may a step ask of a model? Three small protocols, so that a test counts calls and a user brings their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows how far a long step is: `with progress("embedding", total) as advance: advance(n)`."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def no_progress(label: str, total: int) -> AbstractContextManager[Advance]:  # noqa: ARG001 - the protocol's form
    """A Progress that shows nothing."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class TrainingSample:
    """A prompt and the answer that the model is to give to it; `documents` are those whose passages stand in it."""

    prompt: Prompt
    completion: str
    documents: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class HeldOutCheck:
    """How held-out lessons were answered after `step` steps: loss a token (nats), share of answers wholly right."""

    step: int
    loss: float
    score: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training run was: the mean loss per answer token over the last tenth of the steps, and the steps.

    `watched` are the looks at held-out lessons, `stopped` says what ended it, `seen` counts the lessons that it was
    trained on, with their repeats (0: not told), `resumed_at` the steps that an earlier, killed run had done.
    """

    final_loss: float
    losses: tuple[float, ...]
    watched: tuple[HeldOutCheck, ...] = ()
    stopped: str = ""
    seen: int = 0
    resumed_at: int = 0


class Embedder(Protocol):
    """Text to vectors."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text would get another vector: id, revision, pooling, dimensions."""
        ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, shape (len(texts), dimensions), float32."""
        ...


class Generator(Protocol):
    """Prompts to answers."""

    @property
    def base(self) -> str:
        """Changes with the weights that an adapter is trained on."""
        ...

    @property
    def identity(self) -> str:
        """Changes whenever the same prompt may get another answer: base weights, precision, decoding settings."""
        ...

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        """One answer for each prompt, in order, decoded greedily; `adapter` is a folder or None for the base model."""
        ...

    def losses(self, lessons: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        """For each lesson, in order, the mean cross-entropy (nats) per token of its answer, the end mark among them.

        A generator of a user's own may lack this method: whoever calls it looks first whether it is there.
        """
        ...


@dataclass(frozen=True)
class JudgeRequest:
    """An answer that is to be judged, with its question and the answers that are right."""

    question: str
    answer: str
    right: tuple[str, ...]


class Judge(Protocol):
    """Says how right an answer is where no rule can tell."""

    @property
    def identity(self) -> str:
        """Changes whenever the same claim may be judged otherwise."""
        ...

    def judge(self, claim: JudgeRequest) -> float:
        """How right it is, 0 to 1. Raises UnavailableError where nobody answers."""
        ...


class Trainer(Protocol):
    """Lessons to an adapter."""

    def train(self, lessons: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        """Train on `lessons` and write the adapter into `folder`, which must not exist yet.

        A trainer may also have `too_long(lessons) -> list[int]`, the places of lessons that it cannot take; a user's
        own may lack it.
        """
        ...
