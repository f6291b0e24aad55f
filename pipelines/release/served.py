"""Script that MLflow loads to serve a release. It is copied into every release and never updated, so it stays small."""

from __future__ import annotations

from mlflow.models import set_model

from ragtide.pipelines.release.mlflow_model import ServedAssistant

set_model(ServedAssistant())
