"""What does MLflow run of a release? This file, copied into each; it stays thin, since a copy is never mended."""

from mlflow.models import set_model

from pipelines.publish.pyfunc import ServedAssistant

set_model(ServedAssistant())
