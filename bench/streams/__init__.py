"""Streams: sequences of data states made from real histories or made up, on which `bench.replay` runs policies.

    python -m bench.streams [--data FOLDER]

prints them as a table, without FOLDER those that need no data. The streams are built on demand from FOLDER and fixed
seeds; what is stored are the recordings of what happens in them (README.md beside this file).
"""

from bench.streams.recorded import NAMES, missing, streams
from bench.streams.records import Step, Stream

__all__ = ["NAMES", "Step", "Stream", "missing", "streams"]
