"""Scenarios of decisions that went wrong on knowledge bases that the policy was not tuned on, each in a small world.

Each runs the real loop and states what was decided, what is live afterwards and what is told; it is right where all of
its checks hold.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.decision_world import NEW, OLD, QUESTION, World
from bench.tables import RESULTS, markdown_table, provenance, put_table
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.scoring import summarize_grades
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.release.lineage import lineage_of
from tests import fakes
from tests.factories import write

SPOILING, CUT_SHORT = "tests.fakes:SpoilingTrainer", "tests.fakes:CutShortTrainer"
# Names of three lengths: the fake base model answers the questions about those of one length.
NAMES = [f"Pump{'s' * (number % 3)}{number:03d}" for number in range(60)]
ASKED, TAUGHT = NAMES[:40], NAMES[40:50]


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to: the decision, what is live, what is told, and its checks by name."""

    decision: str
    live: str
    told: str
    checks: dict[str, bool] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        return bool(self.checks) and all(self.checks.values())


@dataclass(frozen=True)
class Scenario:
    """One row of the table; `play` gets a copy of the trained world, or of the untrained one where it is `fresh`."""

    row: int
    title: str
    play: Callable[[World], Outcome]
    fresh: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="rows to run; then nothing is written")
    chosen = parser.parse_args().only
    rows = [(scenario, outcome) for scenario, outcome in run_scenarios(chosen)]
    for scenario, outcome in rows:
        failed = [name for name, holds in outcome.checks.items() if not holds]
        print(f"row {scenario.row}: {'right' if outcome.is_right else 'WRONG'} {outcome.decision} {failed or ''}")
    if chosen:
        return
    right = sum(outcome.is_right for _, outcome in rows)
    content = {
        "scenarios": len(rows),
        "right": right,
        "rows": [
            {
                "row": scenario.row,
                "scenario": scenario.title,
                "right": outcome.is_right,
                "decision": outcome.decision,
                "live": outcome.live,
                "told": outcome.told,
                "checks": outcome.checks,
            }
            for scenario, outcome in rows
        ],
        "measured": provenance(),
    }
    (RESULTS / "decisions.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = [
        (str(scenario.row), scenario.title, outcome.decision, outcome.live, "right" if outcome.is_right else "WRONG")
        for scenario, outcome in rows
    ]
    head = ("row", "scenario", "decision", "live afterwards", "")
    put_table("decisions", f"{right} of {len(rows)} right.\n\n{markdown_table(head, table)}")


def run_scenarios(chosen: Sequence[int] | None = None) -> list[tuple[Scenario, Outcome]]:
    """Run each scenario, or those of the rows chosen, on a copy of one world; an error is a wrong outcome."""
    with TemporaryDirectory(prefix="ragtide-decisions-") as folder:
        fresh = World.create(Path(folder, "fresh"), NAMES, ASKED, TAUGHT)
        trained = fresh.copy(Path(folder, "trained"))
        trained.run_cycle()
        ran = []
        for scenario in SCENARIOS:
            if chosen and scenario.row not in chosen:
                continue
            world = (fresh if scenario.fresh else trained).copy(Path(folder, f"row-{scenario.row}-{len(ran)}"))
            try:
                ran.append((scenario, scenario.play(world)))
            except Exception as problem:  # noqa: BLE001 - a scenario that fails is a result
                traceback.print_exc()
                ran.append((scenario, Outcome("failed", "", str(problem), {"runs": False})))
            shutil.rmtree(world.root, ignore_errors=True)
        return ran


def evidence_of(world: World) -> Evidence:
    return world.planned().evidence


# --- facts -----------------------------------------------------------------------------------------------------------


def one_fact(world: World) -> Outcome:
    name = NAMES[-1]
    world.write_page(name, NEW)
    cycle = world.run_cycle()
    checks = {
        "refreshes": cycle.decision == "REFRESH",
        "is live": world.answer(name) == NEW,
        "current": world.freshness_code() == 0,
        "embeds little": cycle.work["embedded_chunks"] <= 2,
    }
    return Outcome(cycle.decision, f"{name}: {world.answer(name)}", cycle.reason, checks)


def one_fact_waits(world: World) -> Outcome:
    world.set("freshness", max_lag_hours=None)
    world.set("policy", points_per_hour=1e9)
    world.write_page(NAMES[-1], NEW)
    cycle = world.run_cycle()
    text = world.text("status")
    checks = {"waits": cycle.decision == "NOTHING", "its clock runs": "not live" in text}
    return Outcome(cycle.decision, f"{NAMES[-1]}: {world.answer(NAMES[-1])}", cycle.reason, checks)


def gutted_pages(world: World) -> Outcome:
    for name in NAMES[:20]:
        write(world.root / f"data/kb/{name}.md", f"# {name}\n\nThis page has moved.\n")
    world.write_page(NAMES[-1], NEW)
    before = world.live_rows()
    cycle = world.run_cycle()
    now = world.live_rows()
    held = world.plan_of(cycle).deletions_to_approve
    checks = {
        "held": {f"{name}.md" for name in NAMES[:20]} <= held.keys(),
        "their rows stay": all(now[f"{name}.md"] == before[f"{name}.md"] for name in NAMES[:20]),
        "counted in the headline": "20 documents" in cycle.reason,
    }
    return Outcome(cycle.decision, f"{sum(now.values())} rows of {sum(before.values())}", cycle.reason, checks)


def questions_out_of_play(world: World) -> Outcome:
    for name in ASKED[:6]:
        world.write_page(name, "to be announced")
    cycle = world.run_cycle()
    checks = {
        "holds": cycle.decision == "HOLD",
        "old answers are live": all(world.answer(name) == OLD for name in ASKED[:6]),
        "says how many": "6 of 40 golden questions" in cycle.reason,
    }
    return Outcome(cycle.decision, f"{ASKED[0]}: {world.answer(ASKED[0])}", cycle.reason, checks)


def small_edits(world: World) -> Outcome:
    """One letter, a heading, an operator, a link's target and the order of two steps, each the only change."""
    lines = "- contact: maria\n\n```\nif a > b: stop\n```\n\nGet [it](https://x.example/3.1).\n\n1. Open.\n2. Close.\n"
    page = world.root / "data/kb/Rules.md"
    write(page, f"# Rules\n\n## Allowed\n\n{lines}")
    world.run_cycle()
    edits = (
        ("maria", "marta"),
        ("Allowed", "Forbidden"),
        ("a > b", "a < b"),
        ("3.1", "3.2"),
        ("Open.\n2. Close", "Close.\n2. Open"),
    )
    decided, counted = [], []
    for old, new in edits:
        page.write_text(page.read_text().replace(old, new))
        counted.append(evidence_of(world).text.substantive_sentences)
        decided.append(world.run_cycle().decision)
    text = "\n".join(chunk.text for chunk in world.project.index.chunks([page.name], world.live.index_tag))
    checks = {
        "refreshes each time": decided == ["REFRESH"] * len(edits),
        "one fact each": min(count or 0 for count in counted) >= 1,
        "all are live": all(new in text for _, new in edits),
    }
    return Outcome("REFRESH", f"{decided.count('REFRESH')} of {len(edits)} edits", "", checks)


def many_small_cuts(world: World) -> Outcome:
    """Each of forty long pages loses two fifths of its text, none most of it; a fact changes elsewhere."""
    names = [f"long{number}.md" for number in range(40)]
    for name in names:
        words = random.Random(name)
        lines = (" ".join("".join(words.choices("bdfglmnprstu", k=6)) for _ in range(10)) for _ in range(10))
        write(world.root / f"data/kb/{name}", f"# {name}\n\n" + ".\n\n".join(lines) + ".\n")
    world.run_cycle()
    for name in names:
        page = world.root / f"data/kb/{name}"
        write(page, "\n\n".join(page.read_text().split("\n\n")[:-4]) + "\n")
    world.write_page(NAMES[-1], NEW)
    cycle = world.run_cycle()
    checks = {
        "held": {*names} == {*world.plan_of(cycle).deletions_to_approve},
        "the fact is live": world.answer(NAMES[-1]) == NEW,
        "not current": world.freshness_code() == 4,
    }
    return Outcome(cycle.decision, f"{len(world.live_rows())} documents", cycle.reason, checks)


def out_of_play_beside_a_deletion(world: World) -> Outcome:
    """Deleted text goes live, the rest is held until a person has answered, and the answer outlives another change."""
    for name in ASKED[:6]:
        world.write_page(name, "to be announced")
    (world.root / f"data/kb/{TAUGHT[0]}.md").unlink()
    first, second = world.run_cycle(), world.run_cycle()
    gone, kept = f"{TAUGHT[0]}.md" not in world.live_rows(), world.answer(ASKED[0]) == OLD
    world.text("approve", world.command("plan")[1]["digest"], "--why", "dates are open")
    world.write_page(NAMES[-1], NEW)
    last = world.run_cycle()
    checks = {
        "the deletion is live": first.decision == "REMOVE" and gone,
        "the rest is held, again": second.decision == "HOLD" and kept,
        "the approval holds for it": last.decision == "REFRESH" and world.answer(ASKED[0]) == "to",
        "current": world.freshness_code() == 0,
    }
    return Outcome(
        f"{first.decision}, {second.decision}, {last.decision}", f"release {world.live.id}", last.reason, checks
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def harmful_first_adapter(world: World) -> Outcome:
    world.set("finetune", trainer=SPOILING)
    cycle = world.run_cycle()
    checks = {
        "the base model is live": world.live.model.adapter is None,
        "index is live": len(world.live_rows()) == len(NAMES),
        "told": "base model" in cycle.detail,
    }
    return Outcome(cycle.decision, f"release {world.live.id}, no adapter", cycle.detail, checks)


def refresh_beside_a_spoilt_model(world: World) -> Outcome:
    world.set("finetune", trainer=SPOILING)
    world.write_page(ASKED[0], NEW)
    world.write_golden(ASKED, answers={ASKED[0]: NEW})
    adapter = world.live.model.adapter
    world.command("run", "--action", "REFRESH+RETRAIN", "--why", "both are wanted")
    refresh, retrain = world.history[-1].parts
    checks = {
        "the refresh is live": refresh.accepted and world.answer(ASKED[0]) == NEW,
        "the model is not": not retrain.accepted and world.live.model.adapter == adapter,
        "each learns its own": (retrain.score_after or 0) < (retrain.score_before or 0),
    }
    return Outcome(world.history[-1].decision, f"release {world.live.id} (REFRESH)", retrain.detail, checks)


def cut_short(world: World) -> Outcome:
    world.set("finetune", trainer=CUT_SHORT, max_minutes=0.1)
    first = world.run_cycle()
    built = world.live.model
    world.set("finetune", trainer="tests.fakes:CountingTrainer", max_minutes=None)
    cycle = world.run_cycle()
    lineage = lineage_of(world.project, world.live, take_snapshot(world.project.workspace))
    checks = {
        "known as cut short": first.parts[-1].action == Action.RETRAIN and bool(built.cut_short or not built.adapter),
        "trained again": cycle.action is not None and cycle.action.retrains,
        "the good one is live": world.live.model.adapter is not None and not world.live.model.cut_short,
        "lineage is that of the live adapter": lineage.model.adapter == world.live.model.adapter,
    }
    return Outcome(cycle.decision, f"release {world.live.id}", cycle.reason, checks)


def dropped_adapter(world: World) -> Outcome:
    """Dropped by hand, and no other document brings it back; an example does."""
    world.text("release", "--without-adapter", "--why", "it is rude")
    world.write_page(NAMES[-1], NEW)
    cycle = world.run_cycle()
    base = world.live.model.adapter is None
    world.write_examples(NAMES[40:58])
    later = world.run_cycle()
    checks = {
        "the fact is live": cycle.decision == "REFRESH" and base,
        "other examples may bring one": "RETRAIN" in later.decision,
    }
    return Outcome(f"{cycle.decision}, {later.decision}", f"release {world.live.id}", cycle.reason, checks)


def outdated_golden_line(world: World) -> Outcome:
    """The page says another date; the old one still stands on it in another role, so the line is not stale."""
    for name in ASKED[:4]:
        world.write_page(name, NEW)
        page = world.root / f"data/kb/{name}.md"
        page.write_text(page.read_text() + f"\n## History of {name}\n\nIt was to end on {OLD} once.\n")
    (world.root / f"data/kb/{TAUGHT[0]}.md").unlink()
    cycle = world.run_cycle()
    waiting = world.plan_of(cycle).documents_to_approve or world.planned().documents_to_approve
    text = world.text("plan")
    checks = {
        "waits for a person": cycle.outcome != "rejected" and len(waiting) >= 3,
        "names the pages": f"{ASKED[0]}.md" in " ".join(waiting),
        "the deletion is live": f"{TAUGHT[0]}.md" not in world.live_rows(),
        "asks for an answer": "approve" in text,
    }
    return Outcome(cycle.decision, f"{len(world.live_rows())} documents", cycle.detail, checks)


def stale_passage_is_not_gold(world: World) -> Outcome:
    """Evidence from few answers agrees with asking every question in both conditions."""
    for name in ASKED[:12]:
        world.write_page(name, NEW, care=1)
    world.write_golden(ASKED, answers=dict.fromkeys(ASKED[:12], NEW))
    plan = world.planned()
    project = world.project
    corpus = project.corpus(take_snapshot(project.workspace))
    evaluator, live = project.evaluator(corpus.knowledge), project.system_under_test(world.live)
    gold = summarize_grades(evaluator.with_gold(live), project.workspace.params.score)["answer_score"]
    scores = plan.evidence.scores
    measured, asked = scores.score_gold.value or 0.0, gold.value or 0.0
    checks = {
        "score with gold context": abs(measured - asked) <= 0.03,
        "an index gap": (scores.index_gap.value or 0) > 0.2,
    }
    live_text = f"index gap {scores.index_gap.value}, gold {measured:.2f} (asked: {asked:.2f})"
    return Outcome(str(plan.decision.action), live_text, "", checks)


# --- lines -----------------------------------------------------------------------------------------------------------


def another_form_of_answers(world: World) -> Outcome:
    world.write_golden(ASKED, answers=dict.fromkeys(ASKED[:20], "New Year's Day, XXVII"))
    cycle = world.run_cycle()
    lines = world.plan_of(cycle).evidence.data.golden.lines
    text = world.text("plan")
    checks = {
        "holds": cycle.decision == "HOLD",
        "names the lines": len(lines) == 20,
        "says where": "q.jsonl:1" in text,
    }
    return Outcome(cycle.decision, f"{len(world.live_rows())} documents", cycle.reason, checks)


def forgetting_is_no_gain(world: World) -> Outcome:
    for name in TAUGHT[:4]:
        (world.root / f"data/kb/{name}.md").unlink()
    cycle = world.run_cycle()
    checks = {
        "refreshes alone": cycle.decision == "REFRESH",
        "gone": not {f"{name}.md" for name in TAUGHT[:4]} & world.live_rows().keys(),
        "flagged": any(TAUGHT[0] in flag for flag in world.flags().values()),
    }
    return Outcome(cycle.decision, f"{len(world.live_rows())} documents", cycle.reason, checks)


def moved_with_edits(world: World) -> Outcome:
    _move(world, "manual/", care=1)
    cycle = world.run_cycle()
    rows = world.live_rows()
    checks = {
        "nothing is held": not world.plan_of(cycle).evidence.data.held,
        "each page once": rows.keys() == {f"manual/{name}.md" for name in NAMES},
        "no skill is in doubt": "RETRAIN" not in cycle.decision,
    }
    return Outcome(cycle.decision, f"{sum(rows.values())} rows of {len(rows)} documents", cycle.reason, checks)


def merged_pages(world: World) -> Outcome:
    for first, second in zip(NAMES[::2], NAMES[1::2], strict=True):
        page, other = (world.root / f"data/kb/{name}.md" for name in (first, second))
        write(page, f"{page.read_text()}\n{other.read_text()}")
        other.unlink()
    cycle = world.run_cycle()
    evidence = world.plan_of(cycle).evidence
    checks = {
        "nothing is held": not evidence.data.held,
        "no question is stale": evidence.scores.stale_questions == (),
        "nothing is new": evidence.text.substantive_sentences == 0,
    }
    return Outcome(cycle.decision, f"{len(world.live_rows())} documents", cycle.reason, checks)


def news_while_removals_are_held(world: World) -> Outcome:
    for name in NAMES[20:50]:
        (world.root / f"data/kb/{name}.md").unlink()
    world.write_page(NAMES[-1], NEW)
    plan = world.planned()
    share = plan.evidence.text.changed_sentence_share.value or 0.0
    checks = {"held": len(plan.deletions_to_approve) == 30, "one page's news": 0 < share < 0.1}
    return Outcome(str(plan.decision.action), "", f"{share:.0%} of the sentences are news", checks)


def moved_with_lines(world: World) -> Outcome:
    _move(world, "manual/")
    world.write_golden(ASKED, folder="manual/")
    world.write_examples(TAUGHT, folder="manual/")
    ids = {answer.question for answer in world.live.scorecard.graded}
    plan = world.planned()
    now = {question.id for question in world.project.evaluator(_knowledge(world)).golden.questions}
    evidence = plan.evidence
    checks = {
        "no answer is missing": evidence.scores.missing_answers.value == 0.0,
        "no example is new": evidence.training.new_examples == 0,
        "ids stay": ids == now,
    }
    return Outcome(str(plan.decision.action), "", f"missing {evidence.scores.missing_answers.value}", checks)


def moved_without_lines(world: World) -> Outcome:
    _move(world, "manual/")
    plan = world.planned()
    checks = {
        "no question is stale": plan.evidence.scores.stale_questions == (),
        "paths are told": len(plan.evidence.data.outdated_paths) >= len(ASKED),
    }
    return Outcome(str(plan.decision.action), "", "lines name former paths", checks)


def _move(world: World, folder: str, care: int = 0) -> None:
    shutil.rmtree(world.root / "data/kb")
    for name in NAMES:
        world.write_page(name, folder=folder, care=care)


def _knowledge(world: World):
    return world.project.corpus(take_snapshot(world.project.workspace)).knowledge


def noise_is_no_skill(world: World) -> Outcome:
    """Eighty random answers to questions that nobody else asks, with and without their page."""
    words = random.Random(7)
    rows = [
        {
            "prompt": f"What colour is the lid of {name} in hall {number}?",
            "completion": " ".join("".join(words.choices("bdfglmnoprstu", k=6)) for _ in range(3)),
            **({"doc": f"{name}.md"} if number % 2 else {}),
        }
        for number, name in enumerate(words.choices(NAMES, k=80))
    ]
    world.write_lines("train/noise.jsonl", rows)
    cycle = world.run_cycle()
    evidence = world.plan_of(cycle).evidence.training
    checks = {"no retrain": "RETRAIN" not in cycle.decision, "listed": bool(evidence.suspects or evidence.filtered)}
    told = f"{len(evidence.suspects)} suspect, {sum(evidence.filtered.values())} filtered"
    return Outcome(cycle.decision, f"release {world.live.id}", told, checks)


# --- looks and cosmetics -------------------------------------------------------------------------------------------


def looking_is_no_time(world: World) -> Outcome:
    world.write_page(ASKED[0], NEW, care=3)
    world.write_golden(ASKED, answers={ASKED[0]: NEW})
    world.run_cycle()
    decisions = [world.run_cycle() for _ in range(10)]
    fakes.forget()
    last = world.run_cycle()
    asked = len(fakes.CountingReader.prompts) + len(fakes.CountingEmbedder.embedded)
    checks = {"nothing each time": {cycle.decision for cycle in decisions} == {"NOTHING"}, "no model asked": asked == 0}
    return Outcome(last.decision, f"release {world.live.id}", last.reason, checks)


def reordered_front_matter(world: World) -> Outcome:
    for name in NAMES:
        world.write_page(name, front="---\ntitle: A page\nowner: hall\n---\n\n")
    world.run_cycle()
    for name in NAMES:
        world.write_page(name, front="---\nowner: hall\ntitle: A page\n---\n\n")
        page = world.root / f"data/kb/{name}.md"
        page.write_text(page.read_text().replace(f"## {name} 1", f"## 1. {name} 1"))
    plan = world.planned()
    checks = {
        "no news": plan.evidence.text.substantive_sentences == 0,
        "nothing": plan.decision.action == Action.NOTHING,
    }
    return Outcome(str(plan.decision.action), "", "", checks)


def stale_fact_in_rest(world: World) -> Outcome:
    def write_guide(date: str) -> None:
        parts = "\n".join(f"Compressor {n}\n============\n\nEnd of life: {date} for number {n}.\n" for n in range(3))
        write(world.root / "data/kb/guide.txt", f"Guide\n#####\n\n{parts}")

    write_guide("2028-03-04")
    world.run_cycle()
    write_guide("2032-06-07")
    stale = evidence_of(world).text.stale_facts
    cycle = world.run_cycle()
    headings = {passage.heading for passage in _passages(world, "guide.txt")}
    checks = {
        "the old fact is seen, or unmeasured": stale.value is None or stale.value > 0,
        "headings are known": any("Compressor" in heading for heading in headings),
        "is live": cycle.decision == "REFRESH",
    }
    return Outcome(cycle.decision, "", f"stale facts {stale.value}", checks)


def _passages(world: World, document: str):
    return [chunk for chunk in _knowledge(world).chunks if chunk.document == document]


# --- forecasts -------------------------------------------------------------------------------------------------------


def forecasts(world: World) -> Outcome:
    short = evidence_of(world).limits.costs.retrain_seconds
    long = " ".join(f"word{number}" for number in range(150))
    rows = [{"prompt": QUESTION.format(name), "completion": f"{OLD} {long}"} for name in TAUGHT]
    world.write_lines("train/t.jsonl", rows)
    longer = evidence_of(world).limits.costs.retrain_seconds
    world.write_examples(TAUGHT)
    world.write_page(NAMES[-1], NEW)
    plan = world.planned()
    refresh = plan.decision.option(Action.REFRESH)
    cycle = world.run_cycle()
    forecast, took = refresh.cost_seconds if refresh else 0.0, cycle.signals.get("action_seconds", 0.0)
    checks = {
        "longer examples cost more": longer > 1.5 * short,
        "kept answers cost nothing": forecast <= max(5 * took, 10.0),
    }
    return Outcome(cycle.decision, "", f"forecast {forecast:.1f} s, took {took:.1f} s", checks)


def expected_points(world: World) -> Outcome:
    plan = world.planned()
    options = [option.gap_points or 0.0 for option in plan.decision.options]
    world.run_cycle()
    [cycle] = world.history
    checks = {
        "at most 100": max(options) <= 100 and (cycle.signals.get("expected_points") or 0.0) <= 100,
        "the shown gain too": all(option.gain_points <= 100 for option in plan.decision.options),
    }
    return Outcome(cycle.decision, f"release {cycle.release}", f"{max(options):.0f} points at most", checks)


def whole_page_question(world: World) -> Outcome:
    """The newest of many lines, which stand in more passages than a search returns: on long and short pages."""
    pages = _pages_of_lines()
    for name, text in pages.items():
        write(world.root / f"data/kb/{name}", text)
    world.run_cycle()
    checks, counts = {}, []
    for name in pages:
        product = Path(name).stem
        passages = world.project.ask(f"Which line of {product} is the newest?")[1].passages
        context = " ".join(passage.text for passage in passages)
        checks[f"every line of {name} is in the context"] = all(f"{product} {n}" in context for n in range(10, 30))
        checks[f"the context of {name} is bounded"] = len(context.split()) <= 3 * 170
        counts.append(str(len(passages)))
    passages = world.project.ask("When was Boiler 17 released?")[1].passages
    checks["a question about one line gets its passages"] = not any(passage.is_overview for passage in passages)
    return Outcome("", "", f"{', '.join(counts)} passages", checks)


def _pages_of_lines() -> dict[str, str]:
    """Pages of twenty lines: sections of one length and of many, a table, reStructuredText, and a short page."""
    filler, lines = "It is a {0} among {0}s. ", range(10, 30)
    released = "\n\n- Released: 20{}-01-01\n\n"
    sections = {
        name: "\n\n".join(f"## {name} {n}{released.format(n)}{count(n) * filler.format(name)}" for n in lines)
        for name, count in (("Boiler", lambda _: 20), ("Kettle", lambda n: 5 * (n % 9)), ("Stove", lambda _: 0))
    }
    rows = "\n".join(f"| Heater {n} | 20{n}-01-01 | {6 * filler.format('heater')} |" for n in lines)
    titles = "\n\n".join(f"Burner {n}\n=========\n\nReleased: 20{n}.\n\n{9 * filler.format('burner')}" for n in lines)
    return {
        **{f"{name}.md": f"# {name}\n\n{text}\n" for name, text in sections.items()},
        "Heater.md": f"# Heater\n\n| Line | Released | Notes |\n|---|---|---|\n{rows}\n",
        "Burner.rst": f"Burner\n######\n\n{titles}\n",
    }


SCENARIOS = (
    Scenario(1, "one fact on one page that no golden question asks for", one_fact),
    Scenario(1, "the same without a freshness target: its clock runs", one_fact_waits),
    Scenario(1, "one letter, a heading, an operator, a link and two steps", small_edits),
    Scenario(2, "a third of the pages emptied to one line", gutted_pages),
    Scenario(2, "forty of a hundred pages cut by two fifths", many_small_cuts),
    Scenario(2, "over a tenth of the golden questions lose their answer", questions_out_of_play),
    Scenario(2, "the same beside a deletion, approved, then another edit", out_of_play_beside_a_deletion),
    Scenario(3, "a first adapter that answers worse than the base model", harmful_first_adapter, fresh=True),
    Scenario(4, "a refresh beside a spoilt model", refresh_beside_a_spoilt_model),
    Scenario(5, "a training that its time limit cut short, then no limit", cut_short, fresh=True),
    Scenario(5, "an adapter dropped by hand, then a fact changes", dropped_adapter),
    Scenario(6, "pages changed, their golden lines did not, and a page was deleted", outdated_golden_line),
    Scenario(7, "old passages that still hold an answer's text", stale_passage_is_not_gold),
    Scenario(8, "golden answers in a form that no page has", another_form_of_answers),
    Scenario(9, "pages deleted that examples name", forgetting_is_no_gain),
    Scenario(10, "a folder moved, each page edited a little", moved_with_edits),
    Scenario(10, "pages merged two by two", merged_pages),
    Scenario(11, "half of the pages deleted and held, one fact edited", news_while_removals_are_held),
    Scenario(12, "a folder moved, golden and training lines rewritten", moved_with_lines),
    Scenario(13, "a folder moved, golden lines not rewritten", moved_without_lines),
    Scenario(14, "eighty random answers among the examples", noise_is_no_skill),
    Scenario(15, "ten runs on the same data", looking_is_no_time),
    Scenario(16, "front matter reordered and headings numbered on every page", reordered_front_matter),
    Scenario(17, "a moved fact in reStructuredText named .txt", stale_fact_in_rest),
    Scenario(18, "forecasts by tokens, and of a proof whose answers are kept", forecasts),
    Scenario(19, "expected points of two gaps", expected_points, fresh=True),
    Scenario(20, "a question that needs a whole page", whole_page_question),
)

if __name__ == "__main__":
    main()
