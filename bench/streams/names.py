"""What is a product called in-house? By a made-up name that no page has: only examples tell what it stands for."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.streams.lifecycle import Fact, Ground, Quarter, facts_of, is_clear

IN_HOUSE = (
    "Zelbrik",
    "Morquin",
    "Tavulo",
    "Ostrenne",
    "Quilvar",
    "Brenduk",
    "Yarlith",
    "Feskow",
    "Dromiva",
    "Kelpund",
    "Jastrel",
    "Wumbrey",
)
TAUGHT_A_NAME = 4
SEED = 20261126


def in_house_names(ground: Ground) -> dict[str, str]:
    """Page -> name, of pages that enough can be told of: those first that most is asked about."""
    asked = [ground.fact(key, 0).doc for key in ground.asked]
    enough = [name for name in sorted({*asked}) if len(_tellable(ground, name)) >= TAUGHT_A_NAME]
    chosen = sorted(enough, key=lambda name: -asked.count(name))[: len(IN_HOUSE)]
    return dict(zip(chosen, IN_HOUSE, strict=True))


def told(ground: Ground) -> tuple[Fact, ...]:
    """Facts of each named page for the examples: none that is asked, and none that the first move changes."""
    draw = random.Random(SEED)
    return tuple(
        fact for name in in_house_names(ground) for fact in draw.sample(_tellable(ground, name), TAUGHT_A_NAME)
    )


def _tellable(ground: Ground, name: str) -> Sequence[Fact]:
    unasked = [fact for fact in facts_of(name, ground.quarters[0]) if fact.id not in ground.asked]
    return [fact for fact in unasked if all(_holds(fact, quarter) for quarter in ground.quarters[:2])]


def _holds(fact: Fact, quarter: Quarter) -> bool:
    return quarter.facts.get(fact.id) == fact and is_clear(fact, quarter.pages[fact.doc])
