"""Extraction of the demo's facts from pages of endoflife.date (MIT) into a compact table.

    python -m demo.extract --data FOLDER

FOLDER holds eol/snapshot_24 .. 27, four consecutive quarters. Only values are copied, no sentences.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from demo.pages import FACTS, Fact

QUARTERS = {"24": "2025-07-01", "25": "2025-10-01", "26": "2026-01-01", "27": "2026-04-01"}
FEWEST, MOST = 3, 5  # release lines per product
# Well-known products with a change in every quarter: a release or a whole release line.
# fmt: off
CHANGING = (
    "alpine-linux", "angular", "ansible", "apache-airflow", "apache-cassandra", "apache-maven", "apache-spark",
    "cockroachdb", "containerd", "django", "dotnet", "drupal", "etcd", "ffmpeg", "go", "gradle", "haproxy",
    "hashicorp-vault", "kotlin", "kubernetes", "laravel", "libreoffice", "mariadb", "memcached", "mongodb",
    "nextcloud", "nextjs", "nginx", "nodejs", "numpy", "openssl", "opensearch", "opentofu", "php", "postgresql",
    "powershell", "python", "rabbitmq", "react", "redis", "ruby", "ruby-on-rails", "scala", "spring-boot",
    "spring-framework", "svelte", "symfony", "tomcat", "traefik", "ubuntu", "vue", "wordpress",
)
# fmt: on
# Products without a change in these quarters.
UNCHANGING = ("angularjs", "apache-ant", "apache-subversion", "jekyll", "kong-gateway", "liquibase", "netbsd", "phpbb")
# Documents that are deleted or added between quarters; they have neither golden questions nor examples.
LAST_QUARTER = {"debian": "2025-10-01", "yarn": "2025-07-01"}
FIRST_QUARTER = {"valkey": "2026-01-01", "sqlite": "2025-10-01"}
LABELS = {"released": "Released", "eol": "End of life", "latest": "Latest release"}
PLAIN = re.compile(r"^(\d{4}-\d\d-\d\d|v?\d+(\.\d+)+)$")


def main() -> None:
    """Write demo/facts.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data / "eol"
    facts = {as_of: list(_read_quarter(data / f"snapshot_{number}/kb", as_of)) for number, as_of in QUARTERS.items()}
    chosen = {*CHANGING, *UNCHANGING, *LAST_QUARTER, *FIRST_QUARTER}
    for as_of in QUARTERS.values():
        _check_release_lines(chosen, facts[as_of], as_of)
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
        yield from [fact for fact in facts if fact][:MOST]


def _fact(as_of: str, product: str, name: str, section: str) -> Fact | None:
    heading = section.split("\n", 1)[0].strip()
    cycle = heading.removeprefix(name).strip()
    values = {key: _value(section, label) for key, label in LABELS.items()}
    if not heading.startswith(name) or not re.fullmatch(r"\d+(\.\d+)*", cycle) or not values["latest"]:
        return None
    return Fact(as_of=as_of, product=product, name=name, cycle=cycle, **values)


def _value(section: str, label: str) -> str:
    match = re.search(rf"^- {label}: (\S+)$", section, re.MULTILINE)
    return match.group(1) if match and PLAIN.match(match.group(1)) else ""


def _check_release_lines(chosen: set[str], facts: list[Fact], as_of: str) -> None:
    counts = Counter(fact.product for fact in facts)
    incomplete = sorted(product for product in chosen if counts[product] < FEWEST)
    if incomplete:
        raise SystemExit(f"demo.extract: fewer than {FEWEST} release lines as of {as_of}: {', '.join(incomplete)}")


def _present(fact: Fact) -> bool:
    first = FIRST_QUARTER.get(fact.product, fact.as_of)
    last = LAST_QUARTER.get(fact.product, fact.as_of)
    return first <= fact.as_of <= last


if __name__ == "__main__":
    main()
