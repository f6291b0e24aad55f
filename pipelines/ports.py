"""What may a step ask of a model? Three small protocols, so that a test counts calls and a user brings their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    # For the types alone: whether anything has changed is found out without numpy.
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows how far a long step is: `with progress("embedding", total) as advance: advance(n)`."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def quiet(label: str, total: int) -> AbstractContextManager[Advance]:  # noqa: ARG001 - the protocol's form
    """A Progress that shows nothing."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class Lesson:
    """A prompt and the answer that the model is to give to it."""

    prompt: Prompt
    completion: str


@dataclass(frozen=True)
class Trained:
    """What a training run was: the mean loss per answer token over the last tenth of the steps, and the steps."""

    final_loss: float
    losses: tuple[float, ...]


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

    def losses(self, lessons: Sequence[Lesson], adapter: Path | None, advance: Advance) -> list[float]:
        """For each lesson, in order, the mean cross-entropy (nats) per token of its answer, the end mark among them.

        A generator of a user's own may lack this method: whoever calls it looks first whether it is there.
        """
        ...


class Trainer(Protocol):
    """Lessons to an adapter."""

    def train(self, lessons: Sequence[Lesson], folder: Path, progress: Progress) -> Trained:
        """Train on `lessons` and write the adapter into `folder`, which must not exist yet."""
        ...
