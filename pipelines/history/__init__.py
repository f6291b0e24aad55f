"""Recorded cycles: costs, freshness, approvals and deletions."""
