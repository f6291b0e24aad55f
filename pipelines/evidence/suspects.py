"""Suspect examples: new ones with a high loss whose answers neither the passages before the model nor others explain.

A loss that no text explains is as high for a random answer as for a skill that the model lacks. A skill shows in
several examples: its answers take their words from the passages or the question, or share them with one another. What
has neither is suspected, and is no excess loss that a retrain would reduce (docs/log.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ragtide.pipelines.data.text import has_digit, split_words, stated_values
from ragtide.pipelines.ports import TrainingSample

# The least share of an answer's words that must be explained.
EXPLAINED_SHARE = 0.5
# A word that so many other answers have is part of a form or of a set of labels.
SHARED_BY = 3
# Fewer examples than these show no form, so that nothing is suspected.
LEAST_EXAMPLES = 8
# Where more than this share is suspect, what the others share is chance.
MOST_SUSPECT = 0.4
# Shorter words say little about what an answer is taken from.
LONG_WORD = 4


def find_suspects(samples: Sequence[TrainingSample], losses: Sequence[float], usual: float) -> list[int]:
    """The positions of samples with a loss above the `usual` one whose answers nothing explains."""
    if len(samples) < LEAST_EXAMPLES:
        return []
    answers = [_content_words(sample.completion) for sample in samples]
    shared = Counter(word for words in answers for word in words)
    return [
        at
        for at, (sample, words) in enumerate(zip(samples, answers, strict=True))
        if losses[at] > usual and not _is_explained(words, sample, shared)
    ]


def without_suspects(losses: Sequence[float], suspects: Sequence[int], usual: float) -> list[float]:
    """The losses with the `usual` one for suspects, and for all where too many are suspect: they show no skill."""
    if len(suspects) > MOST_SUSPECT * len(losses):
        return [min(loss, usual) for loss in losses]
    return [usual if at in suspects else loss for at, loss in enumerate(losses)]


def _is_explained(words: set[str], sample: TrainingSample, shared: Counter[str]) -> bool:
    given = {word.key for message in sample.prompt for word in split_words(message.content)}
    explained = sum(word in given or shared[word] > SHARED_BY for word in words)
    return explained >= EXPLAINED_SHARE * len(words)


def _content_words(answer: str) -> set[str]:
    """The words of an answer's values that say something: numbers and long words, or all where there are none."""
    keys = {word.key for value in stated_values(answer) for word in split_words(value)}
    return {key for key in keys if len(key) >= LONG_WORD or has_digit(key)} or keys
