"""Shared fixtures: offline environment, one Prefect database per run, and projects with counting fakes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ragtide.flows.environment import prepare_environment
from ragtide.pipelines.params import Params
from tests import fakes

ROOT = Path(__file__).parent.parent
FAKES = {
    "embed": {"model": "tests.fakes:CountingEmbedder"},
    "generate": {"model": "tests.fakes:CountingReader"},
    "finetune": {"trainer": "tests.fakes:CountingTrainer", "min_examples": 2},
}

# One Prefect database per test run, so that the ephemeral server starts once.
_HOME = tempfile.TemporaryDirectory(prefix="ragtide-prefect-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _HOME.name
# A defect must fail a test with its traceback.
os.environ["RAGTIDE_TRACEBACKS"] = "1"
prepare_environment(ROOT)

# A worker of pytest-xdist uses one core: models that use all cores slow each other down many times over.
# macOS has no sched_setaffinity.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if _WORKER and hasattr(os, "sched_setaffinity"):
    _CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_CORES[int(_WORKER.removeprefix("gw")) % len(_CORES)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that no worker waits for another worker's last long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("services")}
    items.sort(key=lambda item: item.path not in slow)


def write_project(root: Path, **blocks: dict[str, object]) -> Path:
    """Create a project's folder with params.yaml (fakes and `blocks`), dvc.yaml and empty data folders."""
    for folder in ("kb", "train", "golden"):
        (root / "data" / folder).mkdir(parents=True)
    settings = Params.model_validate(FAKES | blocks).model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", root)
    fakes.forget()
    return root


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that creates projects below the test's own folder."""

    def make(name: str = "project", **blocks: dict[str, object]) -> Path:
        return write_project(tmp_path / name, **blocks)

    return make
