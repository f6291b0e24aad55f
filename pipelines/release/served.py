"""What does MLflow run of a release? This file, copied into each; it stays thin, since a copy is never mended."""

from __future__ import annotations

from mlflow.models import set_model

from ragtide.pipelines.release.mlflow_model import ServedAssistant

set_model(ServedAssistant())
