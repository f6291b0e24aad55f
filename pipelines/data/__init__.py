"""Data snapshots, document formats, imports and line files."""
