"""A small project on which whole cycles run, with real parts and fake models."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.release.lineage import SAW_DELETED
from tests import fakes
from tests.conftest import write_project
from tests.factories import write
from tests.projects import Home

OLD, NEW = "2027-01-01", "2031-05-05"
QUESTION = "When does {} 1 reach end of life?"


@dataclass
class CycleProject(Home):
    """A project on which cycles run.

    The golden questions are about Pump, Tank and Valve. The question about the pump names no page, so it is not
    detected as stale: a refresh with another date for the pump answers it wrongly, and the gate rejects it.
    """

    @property
    def history(self) -> list[Cycle]:
        return self.project.registry.history()

    def page(self, name: str, end_of_life: str) -> None:
        write(self.root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n")

    def documents(self) -> set[str]:
        """The documents in the index of the live release."""
        return set(self.project.index.documents(self.live.index_tag))

    def golden(self, **changed: str) -> None:
        """Write the golden questions; the expected answer is the old date unless `changed` has another."""
        rows = [
            {"question": QUESTION.format(name), "answers": [changed.get(name, OLD)], "docs": docs}
            for name, docs in (("Pump", []), ("Tank", ["Tank.md"]), ("Valve", ["Valve.md"]))
        ]
        write(self.root / "data/golden/q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def copy(self, root: Path) -> Self:
        """A copy of the project, with nothing counted yet."""
        shutil.copytree(self.root, root)
        fakes.forget()
        return type(self)(root)

    def run_cycle(self) -> Cycle:
        fakes.forget()
        return keep_current(project=str(self.root))

    def answer(self, name: str) -> str:
        return self.project.ask(QUESTION.format(name))[1].text

    def run(self, cycle: Cycle) -> Run:
        return self._client.get_run(cycle.run)

    def steps(self, cycle: Cycle) -> list[tuple[str, str]]:
        """(name, status) of the step runs of a cycle, in order."""
        return [(run.info.run_name, run.info.status) for run in self.runs_below(cycle)]

    def runs_below(self, cycle: Cycle) -> list[Run]:
        mine = f"tags.`mlflow.parentRunId` = '{cycle.run}'"
        experiment = self.run(cycle).info.experiment_id
        return list(self._client.search_runs([experiment], mine, order_by=["attributes.start_time ASC"]))

    def flags(self) -> dict[str, str]:
        """Release -> the deleted documents that it is flagged with."""
        name = self.project.workspace.params.registry.model
        versions = [self._client.get_model_version(name, release.id) for release in self.project.registry.releases()]
        return {str(version.version): version.tags[SAW_DELETED] for version in versions if SAW_DELETED in version.tags}

    def artifacts(self, cycle: Cycle) -> set[str]:
        return {artifact.path for artifact in self._client.list_artifacts(cycle.run)}

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.project.workspace.tracking_uri)


def write_cycle_project(root: Path) -> CycleProject:
    """Five pages, two examples and three golden questions, before the first cycle."""
    home = CycleProject(write_project(root))
    for name in ("Pump", "Tank", "Valve", "Motor", "Gear"):
        home.page(name, OLD)
    train = [{"prompt": QUESTION.format(name), "completion": OLD, "doc": f"{name}.md"} for name in ("Motor", "Gear")]
    write(home.root / "data/train/t.jsonl", "".join(json.dumps(row) + "\n" for row in train))
    home.golden()
    return home
