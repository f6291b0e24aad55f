"""Everything that talks to a Prefect server: runs, queue, approvals, artifacts, notifications, deployment."""
