"""Where do the demo's facts come from? The pages of endoflife.date (MIT), cut down to a compact table.

    python -m demo.extract --data FOLDER

FOLDER holds eol/snapshot_24 .. 27, four consecutive quarters. Values are carried over, sentences are not.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from demo.pages import FACTS, Fact

QUARTERS = {"24": "2025-07-01", "25": "2025-10-01", "26": "2026-01-01", "27": "2026-04-01"}
MOVING = 52
STILL = 8
CYCLES = range(3, 6)
KEPT = CYCLES[-1]
# Shown as documents that come and go; neither asked nor taught.
LEAVES_AFTER = {"debian": "2025-10-01", "yarn": "2025-07-01"}
COMES_WITH = {"valkey": "2026-01-01", "sqlite": "2025-10-01"}
LABELS = {"released": "Released", "eol": "End of life", "latest": "Latest release"}
PLAIN = re.compile(r"^(\d{4}-\d\d-\d\d|v?\d+(\.\d+)+)$")


def main() -> None:
    """Write demo/facts.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data / "eol"
    facts = {as_of: list(_read_quarter(data / f"snapshot_{number}/kb", as_of)) for number, as_of in QUARTERS.items()}
    chosen = _choose(facts)
    with FACTS.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Fact.__dataclass_fields__)
        for as_of in QUARTERS.values():
            kept = (fact for fact in facts[as_of] if fact.product in chosen and _present(fact))
            table.writerows([getattr(fact, name) for name in Fact.__dataclass_fields__] for fact in kept)


def _read_quarter(folder: Path, as_of: str) -> Iterator[Fact]:
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        name = text.split("\n", 1)[0].removeprefix("# ").strip()
        facts = [_fact(as_of, page.stem, name, section) for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]]
        yield from [fact for fact in facts if fact][:KEPT]


def _fact(as_of: str, product: str, name: str, section: str) -> Fact | None:
    heading = section.split("\n", 1)[0].strip()
    cycle = heading.removeprefix(name).strip()
    values = {key: _value(section, label) for key, label in LABELS.items()}
    if not heading.startswith(name) or not re.fullmatch(r"\d+(\.\d+)*", cycle) or not values["latest"]:
        return None
    return Fact(as_of=as_of, product=product, name=name, cycle=cycle, **values)


def _value(section: str, label: str) -> str:
    found = re.search(rf"^- {label}: (\S+)$", section, re.MULTILINE)
    return found.group(1) if found and PLAIN.match(found.group(1)) else ""


def _choose(facts: dict[str, list[Fact]]) -> set[str]:
    """Products with enough cycles in every quarter: those that move most often, and a few that never do."""
    tables = [{(one.product, one.cycle): (one.eol, one.latest) for one in facts[as_of]} for as_of in QUARTERS.values()]
    counts = [Counter(product for product, _ in table) for table in tables]
    everywhere = {product for product in counts[0] if all(count[product] in CYCLES for count in counts)}
    moves: Counter[str] = Counter()
    for before, after in pairwise(tables):
        moves.update({product for product, cycle in after if before.get((product, cycle)) != after[(product, cycle)]})
    special = {*LEAVES_AFTER, *COMES_WITH}
    ranked = sorted(everywhere - special, key=lambda product: (-moves[product], product))
    moving = [product for product in ranked if moves[product] == len(tables) - 1]
    still = [product for product in ranked if not moves[product]]
    every = max(1, len(moving) // MOVING)
    return {*moving[::every][:MOVING], *still[:STILL], *special}


def _present(fact: Fact) -> bool:
    leaves, comes = LEAVES_AFTER.get(fact.product, fact.as_of), COMES_WITH.get(fact.product, fact.as_of)
    return comes <= fact.as_of <= leaves


if __name__ == "__main__":
    main()
