"""Made-up in-house names of products: no page contains them, and only examples connect them with the products."""

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
EXAMPLES_PER_NAME = 4
SEED = 20261126


def in_house_names(ground: Ground) -> dict[str, str]:
    """Map pages to names: the pages with most questions, among those with enough facts for examples."""
    asked_pages = [ground.fact(key, 0).doc for key in ground.asked]
    enough = [name for name in sorted({*asked_pages}) if len(_usable_facts(ground, name)) >= EXAMPLES_PER_NAME]
    chosen = sorted(enough, key=lambda name: -asked_pages.count(name))[: len(IN_HOUSE)]
    return dict(zip(chosen, IN_HOUSE, strict=True))


def facts_with_names(ground: Ground) -> tuple[Fact, ...]:
    """Draw facts of each named page for examples: none that is asked, and none that the first update changes."""
    draw = random.Random(SEED)
    return tuple(
        fact for name in in_house_names(ground) for fact in draw.sample(_usable_facts(ground, name), EXAMPLES_PER_NAME)
    )


def _usable_facts(ground: Ground, name: str) -> Sequence[Fact]:
    unasked = [fact for fact in facts_of(name, ground.quarters[0]) if fact.id not in ground.asked]
    return [fact for fact in unasked if all(_holds(fact, quarter) for quarter in ground.quarters[:2])]


def _holds(fact: Fact, quarter: Quarter) -> bool:
    return quarter.facts.get(fact.id) == fact and is_clear(fact, quarter.pages[fact.doc])
