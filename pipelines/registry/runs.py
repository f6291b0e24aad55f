"""What was tried and what is live? The only door to MLflow: runs, datasets, the model registry and its one pointer.

A release is a version of the registered model; the alias `champion` is the one pointer that says which is live. Each
turn of the loop is a run, its steps are nested runs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.registry.client import RegistryClient
from ragtide.pipelines.registry.traces import evaluation_traces

# What MLflow takes of params and of tags in one batch.
AT_ONCE = 100
# What MLflow runs of a release.
SERVED = Path(__file__).parent.parent / "release" / "served.py"


class DvcSource(DatasetSource):
    """Where a dataset comes from: a folder that DVC versions, at the hash that is its digest."""

    def __init__(self, folder: str, digest: str) -> None:
        self.folder = folder
        self.digest = digest

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, **_: Any) -> Any:
        raise NotImplementedError("`dvc checkout` brings the folder back")

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004 - MLflow's form
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> DvcSource:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"folder": self.folder, "md5": self.digest}

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> DvcSource:
        return cls(source_dict["folder"], source_dict["md5"])


class RunLog:
    """One MLflow run to write to: a cycle, or a step in it."""

    def __init__(self, client: RegistryClient, run: Run) -> None:
        self._client = client
        self._run = run

    @property
    def id(self) -> str:
        return str(self._run.info.run_id)

    @property
    def name(self) -> str:
        return str(self._run.info.run_name)

    @property
    def artifact_uri(self) -> str:
        return str(self._run.info.artifact_uri)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings; those of a block as block.name."""
        self._write(params=[Param(key, str(value)) for key, value in _flat(values)])

    def metrics(self, values: Mapping[str, float | None], step: int = 0, at: int | None = None) -> None:
        """Log numbers; what was not measured (None) is left out, never written as 0. `at`: milliseconds since 1970."""
        when = _now() if at is None else at
        known = {key: float(value) for key, value in values.items() if value is not None}
        self._write(metrics=[Metric(key, value, when, step) for key, value in known.items()])

    def series(self, key: str, values: Iterable[tuple[int, float]]) -> None:
        """Log a number at each of some steps."""
        when = _now()
        self._write(metrics=[Metric(key, value, when, step) for step, value in values])

    def tags(self, values: Mapping[str, Any]) -> None:
        self._write(tags=[RunTag(key, str(value)) for key, value in values.items()])

    def _write(self, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()) -> None:
        """In as few transactions, or requests, as MLflow allows: one by one they took a third of an empty turn."""
        for start in range(0, max(len(metrics), len(params), len(tags)), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            self._client.log_batch(self.id, metrics[part], params[part], tags[part])

    def rename(self, name: str) -> None:
        self._client.set_tag(self.id, "mlflow.runName", name)

    def describe(self, markdown: str) -> None:
        """What stands under Description on the run's page."""
        self._client.set_tag(self.id, "mlflow.note.content", markdown)

    def text(self, name: str, content: str) -> None:
        self._client.log_text(self.id, content, name)

    def record(self, name: str, record: Record) -> None:
        self.text(name, record.model_dump_json(indent=2))

    def table(self, name: str, rows: Mapping[str, list[Any]]) -> None:
        self._client.log_table(self.id, dict(rows), name)

    def questions(self, rows: Sequence[AnswerRow]) -> None:
        """A row a question on the run's page, the first on top."""
        self._client.log_traces(self._run.info.experiment_id, evaluation_traces(rows, self._run, _now()))

    def folder(self, name: str | None, folder: Path) -> None:
        """What `folder` holds, under `name`, or at the top of the run's artifacts."""
        self._client.log_artifacts(self.id, str(folder), name)

    def model(self, name: str) -> None:
        """The assistant as MLflow serves it, under `name`: code that looks up what is live, and no weights."""
        from mlflow.pyfunc import save_model

        with tempfile.TemporaryDirectory() as folder:
            # MLflow writes down where the script lay: not where Ragtide is installed on this machine.
            script = shutil.copy(SERVED, folder)
            requirements = [f"ragtide=={version('ragtide')}"]
            save_model(f"{folder}/model", python_model=script, pip_requirements=requirements)
            self.folder(name, Path(folder, "model"))

    def datasets(self, snapshot: Snapshot) -> None:
        """The three data folders as dataset inputs, each with its DVC hash as digest."""
        folders = {"kb": snapshot.kb_id, "train": snapshot.train_id, "golden": snapshot.golden_id}
        files = {"kb": snapshot.documents, "train": snapshot.examples, "golden": snapshot.questions}
        contexts = {"kb": "index", "train": "training", "golden": "evaluation"}
        inputs = [
            DatasetInput(
                dataset=_dataset(name, digest, len(files[name])),
                tags=[InputTag("mlflow.data.context", contexts[name])],
            )
            for name, digest in folders.items()
        ]
        self._client.log_inputs(self.id, inputs)


def _now() -> int:
    """Milliseconds since 1970."""
    return int(datetime.now(UTC).timestamp() * 1000)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _dataset(name: str, digest: str, files: int) -> Dataset:
    source = DvcSource(f"data/{name}", digest)
    profile = json.dumps({"files": files})
    return Dataset(name=name, digest=digest, source_type="dvc", source=source.to_json(), profile=profile)
