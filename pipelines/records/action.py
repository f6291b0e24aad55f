"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from enum import StrEnum

# --- decide --------------------------------------------------------------------------------------------------------


class Component(StrEnum):
    """What an action makes anew: the index's rows, the retriever that made their vectors, or the model."""

    INDEX = "index"
    EMBEDDER = "embedder"
    MODEL = "model"


class Action(StrEnum):
    """What can be done about a change, ordered by cost; HOLD is to do nothing before a person has said yes."""

    NOTHING = "NOTHING"
    REFRESH = "REFRESH"
    REBUILD = "REBUILD"
    TUNE_EMBEDDER = "TUNE_EMBEDDER"
    RETRAIN = "RETRAIN"
    REFRESH_RETRAIN = "REFRESH+RETRAIN"
    REBUILD_RETRAIN = "REBUILD+RETRAIN"
    TUNE_RETRAIN = "TUNE_EMBEDDER+RETRAIN"
    HOLD = "HOLD"

    @property
    def builds(self) -> bool:
        """Whether a candidate comes of it."""
        return self not in (Action.NOTHING, Action.HOLD)

    @property
    def refreshes(self) -> bool:
        """Whether the index becomes another one: by new rows, or by all of them anew."""
        return self in (Action.REFRESH, Action.REFRESH_RETRAIN) or self.rebuilds

    @property
    def rebuilds(self) -> bool:
        return self in (Action.REBUILD, Action.REBUILD_RETRAIN) or self.tunes

    @property
    def tunes(self) -> bool:
        """Whether the retriever becomes another one, and with it every vector."""
        return self in (Action.TUNE_EMBEDDER, Action.TUNE_RETRAIN)

    @property
    def retrains(self) -> bool:
        return self is Action.RETRAIN or self.is_joint

    @property
    def is_joint(self) -> bool:
        """Whether index and model both become other ones."""
        return self in (Action.REFRESH_RETRAIN, Action.REBUILD_RETRAIN, Action.TUNE_RETRAIN)

    def with_retrain(self) -> Action:
        """This action on the index, and a retrain besides."""
        if self.tunes:
            return Action.TUNE_RETRAIN
        return Action.REBUILD_RETRAIN if self.rebuilds else Action.REFRESH_RETRAIN

    def is_about(self, half: Component) -> bool:
        """Whether it is done for this half; that a tuned retriever needs new rows does not make it about the index."""
        about = {
            Component.INDEX: self.refreshes and not self.tunes,
            Component.EMBEDDER: self.tunes,
            Component.MODEL: self.retrains,
        }
        return about[half]
