"""Actions and the components that they change.

The names are the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import reduce, total_ordering
from operator import or_
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Component(StrEnum):
    """What can be out of date: the index, the embedder that made its vectors, or the model."""

    INDEX = "index"
    EMBEDDER = "embedder"
    MODEL = "model"


@total_ordering
@dataclass(frozen=True)
class Action:
    """The components that are made current, ordered by cost; its text is that of its parts: `REFRESH+RETRAIN`.

    `rebuilds` says that every vector of the index is made again, which a tuned embedder implies: the index beside it is
    only refreshed, and goes first, so that what the documents say need not wait for the tuning. `removes` says that
    something is only taken away: the rows of deleted documents from the index, or the adapter from the model. `is_held`
    marks HOLD: nothing is done before a person has approved.
    """

    components: frozenset[Component] = frozenset()
    rebuilds: bool = False
    is_held: bool = False
    removes: bool = False

    NOTHING: ClassVar[Action]
    REMOVE: ClassVar[Action]
    REFRESH: ClassVar[Action]
    REBUILD: ClassVar[Action]
    TUNE_EMBEDDER: ClassVar[Action]
    RETRAIN: ClassVar[Action]
    DROP_ADAPTER: ClassVar[Action]
    HOLD: ClassVar[Action]

    @classmethod
    def named(cls, text: str) -> Action:
        """The action whose text is `text`. Raises ValueError where there is none."""
        if text not in ACTIONS:
            raise ValueError(f"{text!r} is no action: known are {', '.join(ACTIONS)}")
        return ACTIONS[text]

    def __str__(self) -> str:
        if self.is_held:
            return "HOLD"
        return "+".join(_NAMES[part] for part in self.parts) or "NOTHING"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __or__(self, other: Action) -> Action:
        """Both actions at once."""
        return Action(self.components | other.components, self.rebuilds or other.rebuilds)

    def __lt__(self, other: Action) -> bool:
        return _COST_ORDER[self] < _COST_ORDER[other]

    @property
    def parts(self) -> tuple[Action, ...]:
        """The actions on single components that it consists of, in the order in which they go live."""
        rebuilds = self.rebuilds and not self.tunes
        by_component = {
            Component.INDEX: Action.REBUILD if rebuilds else Action.REMOVE if self.removes else Action.REFRESH,
            Component.EMBEDDER: Action.TUNE_EMBEDDER,
            Component.MODEL: Action.DROP_ADAPTER if self.removes else Action.RETRAIN,
        }
        return tuple(part for component, part in by_component.items() if component in self.components)

    @property
    def builds(self) -> bool:
        """Whether it makes a candidate."""
        return bool(self.components)

    @property
    def refreshes(self) -> bool:
        """Whether it makes another version of the index."""
        return bool(self.components & {Component.INDEX, Component.EMBEDDER})

    @property
    def tunes(self) -> bool:
        """Whether it makes another embedder, and with it every vector."""
        return Component.EMBEDDER in self.components

    @property
    def retrains(self) -> bool:
        """Whether it trains another model."""
        return Component.MODEL in self.components and not self.removes

    @property
    def is_joint(self) -> bool:
        """Whether it consists of several parts, each a release of its own."""
        return len(self.parts) > 1

    @property
    def stages(self) -> tuple[Action, ...]:
        """The action and what is left of it where its last parts are not done, the whole first."""
        parts = self.parts
        return tuple(reduce(or_, parts[:count]) for count in range(len(parts), 0, -1))

    def with_retrain(self) -> Action:
        """This action, and a retrain besides."""
        return self | Action.RETRAIN

    def touches(self, component: Component) -> bool:
        """Whether it is done for this component; that a tuned embedder needs new vectors does not touch the index."""
        return component in self.components

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Written as its text; read from its text, or taken as it is."""
        from_text = core_schema.no_info_after_validator_function(cls.named, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )


Action.NOTHING, Action.HOLD = Action(), Action(is_held=True)
Action.REMOVE = Action(frozenset({Component.INDEX}), removes=True)
Action.REFRESH = Action(frozenset({Component.INDEX}))
Action.REBUILD = Action(frozenset({Component.INDEX}), rebuilds=True)
Action.TUNE_EMBEDDER = Action(frozenset({Component.EMBEDDER}), rebuilds=True)
Action.RETRAIN = Action(frozenset({Component.MODEL}))
Action.DROP_ADAPTER = Action(frozenset({Component.MODEL}), removes=True)

_NAMES = {
    Action.REMOVE: "REMOVE",
    Action.DROP_ADAPTER: "DROP_ADAPTER",
    Action.REFRESH: "REFRESH",
    Action.REBUILD: "REBUILD",
    Action.TUNE_EMBEDDER: "TUNE_EMBEDDER",
    Action.RETRAIN: "RETRAIN",
}
_REFRESH_AND_TUNE = Action.REFRESH | Action.TUNE_EMBEDDER
_INDEX_ACTIONS = (Action.REFRESH, Action.REBUILD, Action.TUNE_EMBEDDER, _REFRESH_AND_TUNE)
# Every action by its text, the cheapest first, and HOLD last.
ACTIONS: dict[str, Action] = {
    str(action): action
    for action in (
        Action.NOTHING,
        *_NAMES,
        _REFRESH_AND_TUNE,
        *(action.with_retrain() for action in _INDEX_ACTIONS),
        Action.HOLD,
    )
}
_COST_ORDER = {action: place for place, action in enumerate(ACTIONS.values())}
