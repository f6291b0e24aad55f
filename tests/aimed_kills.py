"""Kills aimed at the moments between tag, pointer and record, where random ones rarely fall, and what they leave.

A `Shelter` is a project whose pages all state one year, so that a release that mixes two states shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ragtide.pipelines.data.snapshot import record_snapshot
from ragtide.pipelines.index.fingerprint import NEWEST_FIRST, local_table_folder
from ragtide.pipelines.models.adapters import adapter_digest
from ragtide.pipelines.records.release import BuiltModel, Outcome
from ragtide.pipelines.release.verify import repair_mismatches, verify_project
from tests.conftest import write_project
from tests.crash import Point, die
from tests.factories import write
from tests.fakes import SKILLS
from tests.projects import Home, release_of

PAGES = ("Pump", "Tank", "Valve")
QUESTION = "When does Pump 1 reach end of life?"


@dataclass
class Shelter(Home):
    """A project without Prefect, whose releases follow one another year by year."""

    year: int = 2030

    def advance_year(self) -> None:
        """Edit every page."""
        self.year += 1
        for name in PAGES:
            write(self.root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: {self.year}\n")
        golden = {"question": QUESTION, "answers": [str(self.year)], "docs": ["Pump.md"]}
        write(self.root / "data/golden/q.jsonl", json.dumps(golden) + "\n")

    def publish(self) -> str:
        """Release the present pages, and return the release's number."""
        project = self.project
        with project.workspace.write_lock():
            for cycle in project.registry.running_cycles():
                project.registry.close_killed(cycle)
            record_snapshot(project.workspace)
            return release_of(project, project.registry.live().model).id

    def years(self, tag: str) -> set[str]:
        """The years that the pages of a tagged version state."""
        chunks = self.project.index.chunks([f"{name}.md" for name in PAGES], tag)
        return {chunk.text.rpartition(" ")[2] for chunk in chunks}

    def is_whole(self) -> bool:
        """Whether the live release is one release: its rows, its adapter and its answer belong together."""
        project, live = self.project, self.live
        folder = project.workspace.adapters / str(live.model.adapter)
        answered = project.ask(QUESTION)[1].text
        is_one = project.index.content(live.index_tag) == live.content and self.years(live.index_tag) == {answered}
        return is_one and adapter_digest(folder) == live.model.adapter

    def releases(self) -> dict[str, str]:
        """Release -> the digest of its rows, of every complete release."""
        return {release.id: release.content for release in self.project.registry.releases()}


def make_shelter(root: Path) -> Shelter:
    """A project with two releases; maintenance keeps nothing that no release needs."""
    shelter = Shelter(write_project(root, maintenance={"keep_days": 0, "max_fragments": 1, "max_deleted_share": 0.0}))
    shelter.advance_year()
    project = shelter.project
    made = write(project.workspace.adapters / "new" / SKILLS, json.dumps({"reads": True})).parent
    digest = adapter_digest(made)
    made.rename(made.with_name(digest))
    record_snapshot(project.workspace)
    release_of(project, BuiltModel(base="reader-1", adapter=digest, examples=None, settings=None))
    shelter.advance_year()
    shelter.publish()
    return shelter


# --- what is done before a kill ------------------------------------------------------------------------------------


def publish_page(shelter: Shelter) -> None:
    """Release an edit of one page, which leaves the table with more than one fragment for maintenance to merge."""
    write(shelter.root / "data/kb/Motor.md", f"# Motor\n\nThis motor is described since {len(shelter.releases())}.\n")
    shelter.publish()


# What `ragtide verify --repair` has to repair.


def lose_tag(shelter: Shelter) -> None:
    shelter.project.index.untag(shelter.live.index_tag)


def damage_adapter(shelter: Shelter) -> None:
    write(shelter.project.workspace.adapters / str(shelter.live.model.adapter) / SKILLS, "{}")


def lose_version(shelter: Shelter) -> None:
    folder = local_table_folder(shelter.project.workspace.index_uri)
    assert folder is not None
    (folder / "_versions" / f"{NEWEST_FIRST - shelter.live.index.version:020d}.manifest").unlink()


@dataclass(frozen=True)
class Moment:
    """A command, the point at which it is killed, and what is done before."""

    command: str
    point: Point
    prepare: Callable[[Shelter], None] = Shelter.advance_year

    def __str__(self) -> str:
        return f"{self.command} {self.point}" + (f" {self.prepare.__name__}" if "verify" in self.command else "")


def _around(command: str, *places: str, prepare: Callable[[Shelter], None] = Shelter.advance_year) -> list[Moment]:
    return [Moment(command, Point(when, place), prepare) for place in places for when in ("before", "after")]


MOMENTS = [
    *_around("publish", "tag", "description", "pointer", "outcome"),
    Moment("publish", Point("after", "release tag", 1)),
    Moment("publish", Point("after", "release tag", 4)),
    *_around("rollback", "pointer", "release tag"),
    *_around("maintain", "compaction", "pruning", prepare=publish_page),
    *_around("verify --repair", "tag", prepare=lose_tag),
    *_around("verify --repair", "download", prepare=damage_adapter),
    *_around("verify --repair", "pointer", "release tag", "untag", prepare=lose_version),
]


@dataclass(frozen=True)
class Aftermath:
    """What one kill has left: whether the live release was torn, and the releases and records that were lost."""

    torn: bool
    lost: tuple[str, ...]


def kill_at(shelter: Shelter, moment: Moment) -> Aftermath:
    """Kill the command at that moment, look at what is live, repair, and release once more."""
    is_damaged = moment.command.startswith("verify")
    moment.prepare(shelter)
    before, live = shelter.releases() if not is_damaged else {}, shelter.live.id
    die(moment.command, shelter.root, moment.point)
    # What was damaged on purpose is whole again only once it has been repaired.
    torn = not is_damaged and not shelter.is_whole()
    project = shelter.project
    with project.workspace.write_lock():
        left = repair_mismatches(verify_project(project))[1]
    torn = torn or not shelter.is_whole()
    lost = [f"release {number}" for number, content in before.items() if shelter.releases().get(number) != content]
    lost += [f"{mismatch.where}: {reason}" for mismatch, reason in left]
    lost += _lost_records(shelter, moment, live)
    shelter.advance_year()
    number = shelter.publish()
    if shelter.live.id != number or shelter.years(f"release-{number}") != {str(shelter.year)}:
        lost.append(f"the next release, {number}")
    return Aftermath(torn or not shelter.is_whole(), tuple(lost))


def _lost_records(shelter: Shelter, moment: Moment, live_before: str) -> list[str]:
    """What the history should say and does not: a pointer that moved must be in it, and no cycle may be open."""
    history = shelter.project.registry.history()
    lost = [f"{cycle.name} is still running" for cycle in history if cycle.outcome is Outcome.RUNNING]
    now = shelter.live.id
    if now == live_before:
        lost += [f"{cycle.name} took back the live release" for cycle in history[-1:] if cycle.undone == now]
    elif moment.command == "publish" and history[-1].release != now:
        lost.append(f"the cycle that made release {now}")
    elif moment.command != "publish" and not any(cycle.undone == live_before for cycle in history):
        lost.append(f"the rollback of release {live_before}")
    return lost
