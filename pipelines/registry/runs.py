"""Writer for one MLflow run: metrics, parameters, tags, tables, artifacts, datasets and evaluation traces."""

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
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import Outcome
from ragtide.pipelines.registry.client import RegistryClient
from ragtide.pipelines.registry.traces import evaluation_traces
from ragtide.pipelines.safe_text import literal_links, mask_secrets

# The most params, or tags, that MLflow accepts in one batch.
BATCH_SIZE = 100
# The script that MLflow loads to serve a release.
SERVED_SCRIPT = Path(__file__).parent.parent / "release" / "served.py"


class DvcSource(DatasetSource):
    """A dataset's source for MLflow: a folder versioned by DVC, at the hash that is the dataset's digest."""

    def __init__(self, folder: str, digest: str) -> None:
        self.folder = folder
        self.digest = digest

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, **_: Any) -> Any:
        raise NotImplementedError("MLflow cannot load this dataset: `dvc checkout` restores the folder")

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004 - MLflow's signature
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
    """One MLflow run to write to: a cycle, one of its steps, or an evaluation."""

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
        """Log settings; a nested one gets the name `block.name`."""
        self._write(params=[Param(key, mask_secrets(str(value))) for key, value in _flatten(values)])

    def metrics(self, values: Mapping[str, float | None], step: int = 0, at: int | None = None) -> None:
        """Log numbers; an unmeasured one (None) is skipped, never logged as 0. `at`: milliseconds since 1970."""
        timestamp = _now() if at is None else at
        measured = {key: float(value) for key, value in values.items() if value is not None}
        self._write(metrics=[Metric(key, value, timestamp, step) for key, value in measured.items()])

    def series(self, key: str, values: Iterable[tuple[int, float]]) -> None:
        """Log one metric at several steps: (step, value) pairs."""
        timestamp = _now()
        self._write(metrics=[Metric(key, value, timestamp, step) for step, value in values])

    def tags(self, values: Mapping[str, Any]) -> None:
        self._write(tags=[RunTag(key, mask_secrets(str(value))) for key, value in values.items()])

    def _write(self, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()) -> None:
        """Log in as few requests as MLflow allows: one by one they took a third of a cycle that does nothing."""
        for start in range(0, max(len(metrics), len(params), len(tags)), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            self._client.log_batch(self.id, metrics[batch], params[batch], tags[batch])

    def close(self, outcome: Outcome, detail: str) -> None:
        """End a run that did not come to its end: its outcome, the reason, and MLflow's status FAILED or KILLED."""
        self.tags({"outcome": outcome.value, "outcome_detail": detail})
        status = RunStatus.FAILED if outcome is Outcome.FAILED else RunStatus.KILLED
        self._client.set_terminated(self.id, RunStatus.to_string(status))

    def rename(self, name: str) -> None:
        self._client.set_tag(self.id, "mlflow.runName", name)

    def describe(self, markdown: str) -> None:
        """Set the Description on the run's page."""
        self.tags({"mlflow.note.content": literal_links(markdown)})

    def text(self, name: str, content: str) -> None:
        """Log a text file; in Markdown, links and pictures are shown as text."""
        shown = literal_links(mask_secrets(content)) if name.endswith(".md") else content
        self._client.log_text(self.id, shown, name)

    def record(self, name: str, record: Record) -> None:
        self.text(name, record.model_dump_json(indent=2))

    def table(self, name: str, rows: Mapping[str, list[Any]]) -> None:
        self._client.log_table(self.id, dict(rows), name)

    def traces(self, rows: Sequence[AnswerRow]) -> None:
        """Log one trace per question, which the run's page lists in this order."""
        self._client.log_traces(self._run.info.experiment_id, evaluation_traces(rows, self._run, _now()))

    def folder(self, name: str | None, folder: Path) -> None:
        """Log the contents of `folder` under `name`, or at the top level of the run's artifacts."""
        self._client.log_artifacts(self.id, str(folder), name)

    def model(self, name: str) -> None:
        """Log the assistant as an MLflow model under `name`: code that looks up the live release, no weights."""
        from mlflow.pyfunc import save_model

        with tempfile.TemporaryDirectory() as folder:
            # MLflow records the script's path, which must not be where Ragtide is installed on this machine.
            script = shutil.copy(SERVED_SCRIPT, folder)
            requirements = [f"ragtide=={version('ragtide')}"]
            save_model(f"{folder}/model", python_model=script, pip_requirements=requirements)
            self.folder(name, Path(folder, "model"))

    def datasets(self, snapshot: Snapshot) -> None:
        """Log the three data folders as dataset inputs, each with its DVC hash as digest."""
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
    """Return milliseconds since 1970."""
    return int(datetime.now(UTC).timestamp() * 1000)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _dataset(name: str, digest: str, files: int) -> Dataset:
    source = DvcSource(f"data/{name}", digest)
    profile = json.dumps({"files": files})
    return Dataset(name=name, digest=digest, source_type="dvc", source=source.to_json(), profile=profile)
