"""Frozen records, written and read as versioned JSON."""
