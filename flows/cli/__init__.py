"""The `ragtide` command line: one module a help panel, and the views that they print."""
