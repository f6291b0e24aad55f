"""Does a model keep a skill whose examples are gone? Three skills one after the other, with and without a replay.

    python -m bench.skills --data FOLDER

FOLDER holds behaviour/{sgd_v0,nl2bash,sgd_v5}_train.jsonl, lines of prompt and completion: dialogues to calls, requests
to shell commands, and the same dialogues to the calls of an API whose names have changed. Some lines are taught, others
asked. At each step the
training folder holds the examples of one skill alone, DVC versions it, and a model is trained by the product's own
functions (without policy and gate, which would have their say on so few examples). sgd_v5 takes the place of sgd_v0:
after it, only nl2bash is an earlier skill that is still valid.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bench.tables import markdown_table, put_table
from ragtide.pipelines.build import base_model_only, build_index, build_model, open_index
from ragtide.pipelines.corpus import Corpus, IndexVersion, read_corpus
from ragtide.pipelines.data.snapshot import record_snapshot
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evaluation import GoldenQuestion, ScorerName
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.replay import replay_examples
from ragtide.pipelines.workspace import Workspace

# Whole commands are too seldom right after so few examples to say what was lost: their words are compared.
SKILLS: dict[str, ScorerName] = {"sgd_v0": "json_f1", "nl2bash": "token_f1", "sgd_v5": "json_f1"}
# Two of the API's services, before and after: so few examples teach no more, and the test files ask for others.
SERVICES = ("Events_2", "Restaurants_1", "Events_25", "Restaurants_15")
FIRST, *LATER = SKILLS
REPLACED = {"sgd_v5": "sgd_v0"}
TAUGHT, ASKED = 48, 32
# 0 beside it: what is lost without a replay.
SHARES = (0.0, Params().examples.replay_share)
# Something to retrieve, as every project has; it helps nobody.
PAGES = {"office.md": "# Office\n\nThe office is open from nine to five; the door at the back is closed at noon.\n"}
RESULTS = Path(__file__).parent / "results" / "skills.json"


class Retained(Record):
    """A skill's score when its examples were there, and after a later one was taught, where they were gone.

    `score_new` is that of the later skill: what the replay costs it is seen beside a share of 0.
    """

    replay_share: float
    skill: str
    after: str
    questions: int
    score_taught: float
    score_after: float
    score_new: float
    replayed: int

    @property
    def share(self) -> float:
        return self.score_after / self.score_taught if self.score_taught else 0.0


@dataclass(frozen=True)
class Step:
    """A model that was just trained, the index of that moment, and who asks."""

    subject: SystemUnderTest
    examiner: Evaluator

    def score(self, asked: Sequence[GoldenQuestion]) -> float:
        """The mean score of the model on held-out lines of a skill."""
        graded = self.examiner.asking(asked).with_retrieval(self.subject)
        return sum(one.score for one in graded) / len(graded)


@dataclass(frozen=True)
class School:
    """A project whose training folder holds one skill after the other."""

    data: Path
    workspace: Workspace

    @classmethod
    def at(cls, data: Path, root: Path, replay_share: float) -> School:
        settings = {
            "generate": {"max_new_tokens": 128},
            "finetune": {"epochs": 2},
            "examples": {"replay_share": replay_share},
        }
        for name, text in PAGES.items():
            path = root / "data/kb" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (root / "data/train").mkdir(parents=True, exist_ok=True)
        return cls(data / "behaviour", Workspace(root, Params.model_validate(settings)))

    @cached_property
    def models(self) -> Models:
        return load_models(self.workspace.params)

    def teach(self, skill: str, before: BuiltModel) -> Step:
        """A model trained where the folder holds `skill` alone, after `before`."""
        corpus = self._corpus(skill, before)
        index = open_index(self.workspace, self.models.embedder)
        reader = index.retriever(
            build_index(self.workspace, LoadedEmbedder(self.models.embedder), corpus.knowledge, no_progress).version
        )
        built, _ = build_model(self.workspace, self.models, corpus, reader, no_progress)
        answerer = Answerer(self.workspace, self.models, no_progress)
        return Step(
            SystemUnderTest(reader, built),
            Evaluator(corpus.knowledge, GoldenSet((), ()), answerer, self.workspace.params),
        )

    def _corpus(self, skill: str, before: BuiltModel) -> Corpus:
        shutil.rmtree(self.workspace.train)
        self.workspace.train.mkdir()
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(self.data, skill)[:TAUGHT]]
        (self.workspace.train / f"{skill}.jsonl").write_text("".join(lines), encoding="utf-8")
        index = open_index(self.workspace, self.models.embedder)
        corpus = read_corpus(self.workspace, record_snapshot(self.workspace), IndexVersion(index, index.latest()))
        older = replay_examples(self.workspace, before, corpus.current_examples, ())
        return replace(corpus, training=replace(corpus.training, replay=older))


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/skills"))
    parser.add_argument("--share", type=float, nargs="*", default=SHARES)
    options = parser.parse_args()
    if not (options.data / "behaviour").is_dir():
        sys.stderr.write(f"bench.skills: {options.data} has no behaviour/: name the data with --data\n")
        return 1
    shutil.rmtree(options.work, ignore_errors=True)
    found = measure(options.data, options.work, options.share)
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"retained_share": round(retained_share(found), 4), "skills": [one.model_dump() for one in found]}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put_table("skills", table(found))
    return 0


def measure(data: Path, work: Path, shares: Sequence[float]) -> list[Retained]:
    """The sequence at each share, and what became at each step of the skills that are still valid then.

    The first skill has nothing before it to be replayed, and is taught once for all shares.
    """
    first = School.at(data, work, 0.0)
    start = first.teach(FIRST, base_model_only(first.models))
    score = start.score(questions(first.data, FIRST))
    return [one for share in shares for one in _sequence(School.at(data, work, share), start, score)]


def _sequence(school: School, start: Step, score: float) -> Iterator[Retained]:
    model, taught = start.subject.model, {FIRST: score}
    for skill in LATER:
        step = school.teach(skill, model)
        model = step.subject.model
        taught.pop(REPLACED.get(skill, ""), None)
        new = step.score(questions(school.data, skill))
        for earlier, before in taught.items():
            asked = questions(school.data, earlier)
            yield Retained(
                replay_share=school.workspace.params.examples.replay_share,
                skill=earlier,
                after=skill,
                questions=len(asked),
                score_taught=round(before, 4),
                score_after=round(step.score(asked), 4),
                score_new=round(new, 4),
                replayed=len(model.replayed),
            )
        taught[skill] = new


def retained_share(found: Sequence[Retained]) -> float:
    """The share of its score that the skill keeps that loses most, at the largest share of replay."""
    most = max(one.replay_share for one in found)
    return min(one.share for one in found if one.replay_share == most)


def table(found: Sequence[Retained]) -> str:
    """The table of bench/README.md."""
    head = [
        "replay share",
        "skill",
        "then",
        "replayed",
        "questions",
        "when taught",
        "afterwards",
        "kept",
        "the new one",
    ]
    rows = [
        [
            f"{one.replay_share:g}",
            one.skill,
            one.after,
            str(one.replayed),
            str(one.questions),
            f"{one.score_taught:.3f}",
            f"{one.score_after:.3f}",
            f"{one.share:.0%}",
            f"{one.score_new:.3f}",
        ]
        for one in found
    ]
    return markdown_table(head, rows)


def questions(folder: Path, skill: str) -> list[GoldenQuestion]:
    """Lines of a skill that are not taught."""
    return [
        GoldenQuestion(
            id=f"{skill}-{number}",
            question=row["prompt"],
            answers=(row["completion"],),
            docs=(),
            scorer=SKILLS[skill],
        )
        for number, row in enumerate(_rows(folder, skill)[TAUGHT:][:ASKED])
    ]


def _rows(folder: Path, skill: str) -> list[dict[str, str]]:
    """A skill's lines, one a prompt; of the dialogues those that two services of the API are called for."""
    lines = (folder / f"{skill}_train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["prompt"]: row for row in map(json.loads, lines)}
    return [row for row in rows.values() if SKILLS[skill] != "json_f1" or _service(row) in SERVICES]


def _service(row: dict[str, str]) -> str:
    return str(json.loads(row["completion"])["service"])


if __name__ == "__main__":
    sys.exit(main())
