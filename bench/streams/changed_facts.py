"""Questions about changed facts: what users ask besides the golden questions once something has changed.

A fact is asked for from the step on at which its answer became another, or was stated for the first time: whoever never
puts it live is wrong at every later step as well.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from bench.streams.records import Step
from ragtide.pipelines.records.evaluation import GoldenQuestion

# Questions at a step, at most: they bound the time of a recording. The latest changes are asked for first.
MOST_ASKED = 12
SEED = 20261130


def with_changed_facts(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with their questions about changed facts, and without the other facts."""
    asked: list[str] = []
    finished = [replace(steps[0], facts={})]
    for number, (before, after) in enumerate(pairwise(steps), start=1):
        changed = changed_ids(before.facts, after.facts)
        random.Random(f"{SEED} {number}").shuffle(changed)
        asked = [*changed, *(key for key in asked if key in after.facts and key not in changed)]
        questions = tuple(after.facts[key] for key in asked[:MOST_ASKED])
        finished.append(replace(after, facts={}, changed_facts=questions))
    return tuple(finished)


def changed_ids(before: Mapping[str, GoldenQuestion], after: Mapping[str, GoldenQuestion]) -> list[str]:
    """Return the ids of the facts that are new or have other answers; in other words or another form is no change."""
    return sorted(key for key, now in after.items() if key not in before or stated(before[key]) != stated(now))


def stated(question: GoldenQuestion) -> tuple[str, ...]:
    """Return what a fact says, whatever the form of its answer."""
    return question.answers
