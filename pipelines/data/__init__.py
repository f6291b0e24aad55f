"""Data snapshots, DVC, documents and their formats, imports, line files, and values in texts."""
