"""Retention of earlier skills whose training examples were deleted, with and without replayed examples.

    python -m bench.skills --data FOLDER

FOLDER holds behaviour/{sgd_v0,nl2bash,sgd_v5}_train.jsonl, lines of prompt and completion: dialogues to API calls,
requests to shell commands, and the same dialogues to the calls of the API after its names have changed. Some lines are
trained on, others are held out as questions. At each step the training folder holds the examples of one skill alone,
DVC versions it, and a model is trained by the product's own functions (without policy and gate, which would reject
models trained on so few examples). sgd_v5 replaces sgd_v0: after it, only nl2bash is an earlier skill that is still
valid. Five models are trained on 48 to 96 examples each, which takes tens of minutes on 2 cores.
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
from ragtide.pipelines.corpus import Corpus, read_corpus
from ragtide.pipelines.data.snapshot import record_snapshot
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.index.folder import IndexVersion
from ragtide.pipelines.models.load import LoadedEmbedder, Models, load_models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evaluation import GoldenQuestion, ScorerName
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.replay import replay_examples
from ragtide.pipelines.workspace import Workspace

# After so few examples whole commands are rarely correct, so that a loss would not show: their words are compared.
SKILLS: dict[str, ScorerName] = {"sgd_v0": "json_f1", "nl2bash": "token_f1", "sgd_v5": "json_f1"}
# Two of the API's services, before and after the change: more cannot be learned from so few examples.
SERVICES = ("Events_2", "Restaurants_1", "Events_25", "Restaurants_15")
FIRST, *LATER = SKILLS
REPLACED = {"sgd_v5": "sgd_v0"}
TRAINED, ASKED = 48, 32
# A share of 0 shows the loss without replay.
SHARES = (0.0, Params().examples.replay_share)
# A document to retrieve, as every project has; it answers no question.
PAGES = {"office.md": "# Office\n\nThe office is open from nine to five; the door at the back is closed at noon.\n"}
RESULTS = Path(__file__).parent / "results" / "skills.json"


class Retained(Record):
    """A skill's score after training on its examples, and after training on a later skill without them.

    `score_new` is the score of the later skill; compared with a replay share of 0 it shows the cost of the replay.
    """

    replay_share: float
    skill: str
    after: str
    questions: int
    score_trained: float
    score_after: float
    score_new: float
    replayed: int

    @property
    def share(self) -> float:
        return self.score_after / self.score_trained if self.score_trained else 0.0


@dataclass(frozen=True)
class Step:
    """A newly trained model with its index, and the evaluator."""

    system: SystemUnderTest
    evaluator: Evaluator

    def score(self, golden: Sequence[GoldenQuestion]) -> float:
        """Return the mean score of the model on a skill's held-out questions."""
        graded = self.evaluator.asking(golden).with_retrieval(self.system)
        return sum(answer.score for answer in graded) / len(graded)


@dataclass(frozen=True)
class SkillProject:
    """A project whose training folder holds one skill after the other."""

    data: Path
    workspace: Workspace

    @classmethod
    def at(cls, data: Path, root: Path, replay_share: float) -> SkillProject:
        """Create the project at `root`."""
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

    def train(self, skill: str, previous: BuiltModel) -> Step:
        """Train a model after `previous`, with the examples of `skill` alone in the folder."""
        corpus = self._corpus(skill, previous)
        index = open_index(self.workspace, self.models.embedder)
        built = build_index(self.workspace, LoadedEmbedder(self.models.embedder), corpus.knowledge, no_progress)
        retriever = index.retriever(built.version)
        model, _ = build_model(self.workspace, self.models, corpus, retriever, no_progress)
        answerer = Answerer(self.workspace, self.models, no_progress)
        evaluator = Evaluator(corpus.knowledge, GoldenSet((), ()), answerer, self.workspace.params)
        return Step(SystemUnderTest(retriever, model), evaluator)

    def _corpus(self, skill: str, previous: BuiltModel) -> Corpus:
        shutil.rmtree(self.workspace.train)
        self.workspace.train.mkdir()
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(self.data, skill)[:TRAINED]]
        (self.workspace.train / f"{skill}.jsonl").write_text("".join(lines), encoding="utf-8")
        index = open_index(self.workspace, self.models.embedder)
        corpus = read_corpus(self.workspace, record_snapshot(self.workspace), IndexVersion(index, index.latest()))
        replayed = replay_examples(self.workspace, previous, corpus.current_examples, ())
        return replace(corpus, training=replace(corpus.training, replay=replayed))


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/skills"))
    parser.add_argument("--share", type=float, nargs="*", default=SHARES)
    options = parser.parse_args()
    if not (options.data / "behaviour").is_dir():
        sys.stderr.write(f"bench.skills: {options.data} has no behaviour/: pass the data folder with --data\n")
        return 1
    shutil.rmtree(options.work, ignore_errors=True)
    retained = measure(options.data, options.work, options.share)
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"retained_share": round(retained_share(retained), 4), "skills": [row.model_dump() for row in retained]}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put_table("skills", table(retained))
    return 0


def measure(data: Path, work: Path, shares: Sequence[float]) -> list[Retained]:
    """Train the skills in sequence at each replay share, and score the earlier valid skills after each step.

    The first skill has nothing to replay, and is trained once for all shares.
    """
    first = SkillProject.at(data, work, 0.0)
    start = first.train(FIRST, base_model_only(first.models))
    score = start.score(questions(first.data, FIRST))
    projects = (SkillProject.at(data, work, share) for share in shares)
    return [row for project in projects for row in _sequence(project, start, score)]


def _sequence(project: SkillProject, start: Step, score: float) -> Iterator[Retained]:
    model, trained_scores = start.system.model, {FIRST: score}
    for skill in LATER:
        step = project.train(skill, model)
        model = step.system.model
        trained_scores.pop(REPLACED.get(skill, ""), None)
        new = step.score(questions(project.data, skill))
        for earlier, score_trained in trained_scores.items():
            golden = questions(project.data, earlier)
            yield Retained(
                replay_share=project.workspace.params.examples.replay_share,
                skill=earlier,
                after=skill,
                questions=len(golden),
                score_trained=round(score_trained, 4),
                score_after=round(step.score(golden), 4),
                score_new=round(new, 4),
                replayed=len(model.replayed),
            )
        trained_scores[skill] = new


def retained_share(retained: Sequence[Retained]) -> float:
    """Return the lowest retained share of a skill's score, at the largest replay share."""
    largest = max(row.replay_share for row in retained)
    return min(row.share for row in retained if row.replay_share == largest)


def table(retained: Sequence[Retained]) -> str:
    """Return the table of bench/README.md."""
    head = [
        "replay share",
        "skill",
        "later skill",
        "replayed examples",
        "questions",
        "score after its training",
        "score after the later skill",
        "retained share",
        "score of the later skill",
    ]
    rows = [
        [
            f"{row.replay_share:g}",
            row.skill,
            row.after,
            str(row.replayed),
            str(row.questions),
            f"{row.score_trained:.3f}",
            f"{row.score_after:.3f}",
            f"{row.share:.0%}",
            f"{row.score_new:.3f}",
        ]
        for row in retained
    ]
    return markdown_table(head, rows)


def questions(folder: Path, skill: str) -> list[GoldenQuestion]:
    """Return held-out lines of a skill as golden questions."""
    return [
        GoldenQuestion(
            id=f"{skill}-{number}",
            question=row["prompt"],
            answers=(row["completion"],),
            docs=(),
            scorer=SKILLS[skill],
        )
        for number, row in enumerate(_rows(folder, skill)[TRAINED:][:ASKED])
    ]


def _rows(folder: Path, skill: str) -> list[dict[str, str]]:
    """Read a skill's lines, one per prompt; of the dialogues only those that call two services of the API."""
    lines = (folder / f"{skill}_train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["prompt"]: row for row in map(json.loads, lines)}
    return [row for row in rows.values() if SKILLS[skill] != "json_f1" or _service(row) in SERVICES]


def _service(row: dict[str, str]) -> str:
    return str(json.loads(row["completion"])["service"])


if __name__ == "__main__":
    sys.exit(main())
