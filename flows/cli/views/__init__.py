"""Renderable views of decisions, lineage, policy replays and status."""
