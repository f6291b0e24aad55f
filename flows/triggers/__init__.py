"""The ways in which a data change asks for a run: events, file watcher, webhook, git hooks."""
