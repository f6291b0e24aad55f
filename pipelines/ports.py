"""Protocols of the models: embedder, generator, judge and trainer, implemented by Ragtide, by tests or by the user."""

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
    """Displays the progress of a long step: `with progress("embedding", total) as advance: advance(n)`."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def no_progress(label: str, total: int) -> AbstractContextManager[Advance]:  # noqa: ARG001 - the protocol's signature
    """A Progress that shows nothing."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Message:
    """One message of a conversation, as chat templates take it."""

    role: str
    content: str


Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class TrainingSample:
    """A prompt and its expected answer; `documents` are those whose passages the prompt contains."""

    prompt: Prompt
    completion: str
    documents: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class HeldOutCheck:
    """An evaluation on held-out samples after `step` steps: loss per token (nats), share of exactly right answers."""

    step: int
    loss: float
    score: float


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run.

    `final_loss` is the mean loss per answer token (nats) over the last tenth of the steps, `losses` that of every step.
    `checks` are the evaluations on held-out samples, `stopped` says why training ended, `cut_short` that a time limit
    did, `seen` counts the samples trained on, with repeats (0: unknown), `resumed_at` the steps that an earlier, killed
    run had completed.
    """

    final_loss: float
    losses: tuple[float, ...]
    checks: tuple[HeldOutCheck, ...] = ()
    stopped: str = ""
    cut_short: bool = False
    seen: int = 0
    resumed_at: int = 0


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def fingerprint(self) -> str:
        """Identifies the vectors: changes whenever the same text would get another one (id, revision, pooling, ...)."""
        ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, shape (len(texts), dimensions), float32."""
        ...


class Generator(Protocol):
    """Turns prompts into answers."""

    @property
    def base(self) -> str:
        """Identifies the base weights that adapters are trained on."""
        ...

    @property
    def identity(self) -> str:
        """Identifies the answers: changes with the base weights, the precision and the decoding settings."""
        ...

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        """One answer for each prompt, in order, decoded greedily; `adapter` is a folder or None for the base model."""
        ...

    def losses(self, samples: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        """The mean cross-entropy (nats) per token of each sample's answer, in order; the end token counts too.

        A user's own generator may lack this method; callers check for it first.
        """
        ...


@dataclass(frozen=True)
class JudgeRequest:
    """An answer to be judged, with its question and the correct answers."""

    question: str
    answer: str
    right: tuple[str, ...]


class Judge(Protocol):
    """Scores answers that no rule can score."""

    @property
    def identity(self) -> str:
        """Identifies the judgements: changes whenever the same answer may be scored differently."""
        ...

    def judge(self, request: JudgeRequest) -> float:
        """The score of an answer, 0 to 1. Raises UnavailableError if the judge does not answer."""
        ...


class Trainer(Protocol):
    """Trains adapters."""

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        """Train on `samples` and write the adapter into `folder`, which must not exist yet.

        A trainer may also have `too_long(samples) -> list[int]`, the indices of samples that are too long for it.
        """
        ...
