"""What happens to a project's data, step by step? Streams made of real histories, for `bench.replay` to play.

    python -m bench.streams --data FOLDER

prints them as a table. Everything is built when it is asked for, from FOLDER and fixed seeds; nothing is stored.
"""

from bench.streams.recorded import missing, streams
from bench.streams.records import Step, Stream

__all__ = ["Step", "Stream", "missing", "streams"]
