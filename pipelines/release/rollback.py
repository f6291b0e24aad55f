"""Rollback to an earlier release: index and model together, by one pointer move."""

from __future__ import annotations

from collections.abc import Callable

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.release import ROLLBACK, Outcome, Release
from ragtide.pipelines.registry.cycles import UNDONE
from ragtide.pipelines.registry.releases import Registry


def roll_back(
    registry: Registry, release_id: str | None, why: str, check_servable: Callable[[Release], None] = lambda _: None
) -> Release:
    """Move the pointer to the release before the live one, or to `release_id`, and return that release.

    A cycle may be running: it then publishes nothing, since another release is live. The release that is left gets a
    tag, so that the same data does not bring it back. Raises UserError where there is no release to roll back to;
    `check_servable` raises it for one that could not be served.
    """
    with registry.pointer_lock():
        live = registry.live()
        target_id = release_id or live.previous
        if target_id is None:
            raise UserError(f"release {live.id} is the first one: there is no earlier release to roll back to")
        if target_id == live.id:
            raise UserError(f"release {live.id} is already live")
        target = registry.release(target_id)
        check_servable(target)
        # Recorded before the pointer moves: after a kill in between, the next cycle must not redo what was undone.
        with registry.manual_cycle("rollback", {"decision": ROLLBACK, "reason": why, UNDONE: live.id}) as log:
            registry.set_live(target)
            log.tags({"outcome": Outcome.ROLLED_BACK.value, "release": target.id})
            registry.tag_release(live.id, {"rolled_back": why})
        return target
