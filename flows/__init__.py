"""When, and in which order: the only package that imports Prefect, and the `ragtide` command."""
