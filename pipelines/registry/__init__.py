"""MLflow: runs, releases, layout and traces."""
