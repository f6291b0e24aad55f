"""The thirteen streams, seven for tuning and six for testing: nine of real histories, and four of made-up ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from bench.streams.behaviour import Calls, Commands, read_calls, read_commands
from bench.streams.changed_facts import with_changed_facts
from bench.streams.edits import EDITS
from bench.streams.lifecycle import QUARTERS, Ground, read_ground
from bench.streams.made_up import MADE_UP, made_up_streams
from bench.streams.medical import Passage, read_passages
from bench.streams.names import facts_with_names, in_house_names
from bench.streams.records import Step, Stream
from bench.streams.world import PLAIN, World
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion

NOTHING, REFRESH, RETRAIN, TUNE = Action.NOTHING, Action.REFRESH, Action.RETRAIN, Action.TUNE_EMBEDDER
BOTH, HOLD = Action.REFRESH.with_retrain(), Action.HOLD
START, STILL = "the start", "nothing happens"
# All streams, in the order of the tables.
REAL = ("facts", "cosmetic", "api", "gutted", "skill", "mixed", "rename", "domain", "names")
NAMES = (*REAL, *MADE_UP)
NEEDED = (
    *(f"eol/snapshot_{number}/facts.jsonl" for number in QUARTERS),
    *(f"behaviour/{name}_{part}.jsonl" for name in ("sgd_v0", "sgd_v5", "nl2bash") for part in ("train", "test")),
    "medquad/corpus.jsonl",
)
# How many of the changing pages are updated to each quarter; None is all.
AMOUNTS = (None, 6, None, 12, 3, None, 8)
# How many of the questions and examples of the streams "api" and "skill" are about facts.
API_FACTS, API_EXAMPLES, SKILL_FACTS = 16, 18, 24


def missing(data: Path) -> list[str]:
    """Return the files that the streams need and the folder does not have."""
    return [needed for needed in NEEDED if not (data / needed).is_file()]


def streams(data: Path | None) -> list[Stream]:
    """Build all streams from the benchmark's data folder, or those that need none; the result is deterministic."""
    built = [*(_real_streams(data) if data else []), *made_up_streams()]
    return [replace(stream, steps=with_changed_facts(stream.steps)) for stream in built]


def _real_streams(data: Path) -> list[Stream]:
    ground = read_ground(data / "eol")
    return [
        Stream("facts", _facts(ground), "tune"),
        Stream("cosmetic", _cosmetic(ground), "tune"),
        Stream("api", _api(ground, read_calls(data / "behaviour")), "tune"),
        Stream("gutted", _gutted(ground), "tune"),
        Stream("skill", _skill(ground, read_commands(data / "behaviour")), "test"),
        Stream("mixed", _mixed(ground), "test"),
        Stream("rename", _rename(ground), "test"),
        Stream("domain", _domain(ground, read_passages(data / "medquad")), "test"),
        Stream("names", _names(ground), "test"),
    ]


def _facts(ground: Ground) -> tuple[Step, ...]:
    moves = list(enumerate(AMOUNTS, start=1))
    worlds = list(accumulate(moves, lambda world, move: world.at_quarter(*move), initial=World(ground)))
    descriptions = [
        f"{amount or 'all'} of the changing pages are updated to quarter {quarter}" for quarter, amount in moves
    ]
    steps = [world.step(text, REFRESH) for world, text in zip(worlds[1:], descriptions, strict=True)]
    return (worlds[0].step(START), *steps, worlds[-1].step(STILL, NOTHING))


def _cosmetic(ground: Ground) -> tuple[Step, ...]:
    worlds = list(accumulate(EDITS, lambda world, edit: world.edited(edit), initial=World(ground)))
    steps = [world.step(f"a third edited: {edit}", NOTHING) for world, edit in zip(worlds[1:], EDITS, strict=True)]
    return (worlds[0].step(START), *steps)


def _api(ground: Ground, calls: Calls) -> tuple[Step, ...]:
    def world(version: str, later: int, style: World) -> World:
        examples = tuple(call.example(version) for call in (*calls.training, *calls.later[:later]))
        return style.but(more_examples=examples, more_questions=calls.questions(version))

    plain = World(ground, asked=API_FACTS, trained=API_EXAMPLES)
    edited = plain.edited("labels in bold")
    return (
        world("v0", 0, plain).step(START),
        world("v0", 0, plain).step(STILL, NOTHING),
        world("v0", 4, plain).step("four more examples of the same calls", NOTHING),
        world("v5", 4, plain).step("the API is renamed: examples and questions follow", RETRAIN),
        world("v5", 4, plain).step(STILL, NOTHING),
        world("v5", 4, edited).step("a third edited: labels in bold", NOTHING),
        world("v5", 8, edited).step("four more examples of the same calls", NOTHING),
        world("v0", 8, edited).step("the API is renamed back", RETRAIN),
        world("v0", 8, edited).step(STILL, NOTHING),
    )


def _skill(ground: Ground, commands: Commands) -> tuple[Step, ...]:
    start = World(ground, asked=SKILL_FACTS)
    so_far = list(accumulate(commands.portions))
    worlds = [start.but(more_examples=examples, more_questions=commands.questions) for examples in so_far]
    first = worlds[0].step("shell commands are asked for; three examples", NOTHING)
    others = [world.step("twelve more examples of shell commands") for world in worlds[1:]]
    return (start.step(START), first, *others, worlds[-1].step(STILL))


def _mixed(ground: Ground) -> tuple[Step, ...]:
    start = World(ground)
    moved = start.at_quarter(1)
    edited = moved.edited("labels in bold")
    wrapped = edited.answers(wrapped=True)
    later = wrapped.at_quarter(2)
    plain = later.at_quarter(3).answers(wrapped=False)
    renamed = plain.moved("products/")
    return (
        start.step(START),
        moved.step("facts change to quarter 1", REFRESH),
        moved.step(STILL, NOTHING),
        edited.step("a third edited: labels in bold", NOTHING),
        wrapped.step("the answer format changes to JSON", RETRAIN),
        later.step("facts change to quarter 2", REFRESH),
        plain.step("facts change to quarter 3, and the answer format back to plain", BOTH),
        renamed.step("all pages are renamed", NOTHING),
        renamed.at_quarter(4).step("facts change to quarter 4", REFRESH),
    )


def _rename(ground: Ground) -> tuple[Step, ...]:
    start = World(ground)
    moved = start.moved("products/")
    half = moved.moved("lifecycle/", 0.5)
    later = half.at_quarter(1)
    back = later.moved("")
    again = back.moved("support/")
    return (
        start.step(START),
        moved.step("all pages are renamed", NOTHING),
        moved.step(STILL, NOTHING),
        half.step("half of the pages are renamed", NOTHING),
        later.step("facts change to quarter 1", REFRESH),
        back.step("all pages are renamed back", NOTHING),
        back.step(STILL, NOTHING),
        again.step("all pages are renamed again", NOTHING),
        again.at_quarter(2).step("facts change to quarter 2", REFRESH),
    )


def _gutted(ground: Ground) -> tuple[Step, ...]:
    start = World(ground)
    moved = start.at_quarter(1)
    later = moved.at_quarter(2)
    return (
        start.step(START),
        start.step(STILL, NOTHING),
        moved.step("facts change to quarter 1", REFRESH),
        moved.gutted(0.7).step("70 % of the pages vanish", HOLD),
        moved.gutted(0.7).step("the pages are still missing", HOLD),
        moved.step("the pages are back", NOTHING),
        later.step("facts change to quarter 2", REFRESH),
        later.gutted(0.5).step("half of the pages vanish", HOLD),
        later.step("the pages are back", NOTHING),
    )


def _domain(ground: Ground, passages: tuple[Passage, ...]) -> tuple[Step, ...]:
    start = World(ground)
    first = _with_passages(start, passages[:20], 14)
    second = _with_passages(first, passages[20:40], 8)
    edited = second.edited("more blank lines")
    moved = edited.at_quarter(1)
    third = _with_passages(moved, passages[40:], 0)
    return (
        start.step(START),
        start.step(STILL, NOTHING),
        first.step("20 medical pages join, and 14 questions about them", REFRESH),
        first.step(STILL, NOTHING),
        second.step("20 more medical pages join, and 8 questions about them", REFRESH),
        edited.step("a third edited: more blank lines", NOTHING),
        moved.step("facts change to quarter 1", REFRESH),
        third.step("10 more medical pages join, without questions about them", REFRESH),
        third.step(STILL, NOTHING),
    )


def _names(ground: Ground) -> tuple[Step, ...]:
    start = World(ground)
    named = start.named(in_house_names(ground), facts_with_names(ground))
    moved = named.at_quarter(1)
    return (
        start.step(START),
        # With gold context the model answers whatever the product is called: only the search does not know the name.
        named.step("twelve products are called by in-house names, in questions and examples", TUNE),
        named.step(STILL, NOTHING),
        moved.step("facts change to quarter 1", REFRESH),
        moved.step(STILL, NOTHING),
    )


def _with_passages(world: World, passages: tuple[Passage, ...], asked: int) -> World:
    questions = tuple(
        GoldenQuestion(
            id=passage.path,
            question=passage.question,
            answers=(passage.answer,),
            docs=(passage.path,),
            format=PLAIN,
        )
        for passage in passages
    )
    return world.but(
        others={**world.others, **{passage.path: passage.text for passage in passages}},
        more_questions=(*world.more_questions, *questions[:asked]),
        more_facts={**world.more_facts, **{question.id: question for question in questions[asked:]}},
    )
