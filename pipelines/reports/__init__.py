"""Decisions, verdicts and evaluations as text, Markdown, HTML and plots."""
