"""When, and in which order: the only package that imports Prefect, and the `ragtide` command."""

from flows.environment import stay_offline

# Before anything that reads these switches when it is imported.
stay_offline()
