# SPDX-License-Identifier: Apache-2.0
"""The identify lanes: which shard may start a session now. Pure; the caller passes the time.

One lane per ``shard_id % max_concurrency`` (Discord: Gateway, Rate Limiting). A lane is taken from
the grant until the permit is used or comes back, and rests for the interval after its use, since
network delay shrinks the gap at Discord's end. The daily budget is shared by all lanes.
"""

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from discluster.plan import IdentifySlots

_PERMIT_LIFETIME: Final = 30.0
_LOOK_AGAIN: Final = 0.25


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Discord's session starts. ``resets_at``: wall clock, seconds."""

    total: int
    remaining: int
    resets_at: float


class Waiting(msgspec.Struct, frozen=True):
    """A host that asked for a permit for a shard."""

    shard: int
    host: str


class _Lane(msgspec.Struct):
    """``rests_until``: after the newest use. ``granted_until``: when the permit that is
    out expires; two fields, since giving a permit back must not end the rest after another's use.
    """

    waiting: dict[int, str]
    rests_until: float = float("-inf")
    granted: Waiting | None = None
    granted_until: float = float("-inf")

    @property
    def free_at(self) -> float:
        """When the next permit may be given out."""
        return max(self.rests_until, self.granted_until)

    def take_back(self, shard: int) -> None:
        """The permit of ``shard``, if it is out, is over."""
        if self.granted is not None and self.granted.shard == shard:
            self.granted, self.granted_until = None, float("-inf")


class Lanes:
    """Requests in, grants out. Times are seconds of one monotonic clock, except where said."""

    def __init__(self, *, interval: float, reserve: float, rest_until: float) -> None:
        """``reserve``: fraction of the budget never spent. ``rest_until``: no grant before; for a
        MASTER that does not know what its predecessor granted last.
        """
        self._interval = interval
        self._reserve = reserve
        self._rest_until = rest_until
        self._lanes: dict[int, _Lane] = {}
        self._count = 1
        self._away: tuple[IdentifySlots, ...] = ()
        self.budget: Budget | None = None
        self.blocked: str | None = None

    def resize(self, max_concurrency: int) -> None:
        """Sets the number of lanes; those that wait keep waiting, in their new lane."""
        if max_concurrency == self._count:
            return
        waiting = [
            (shard, host) for lane in self._lanes.values() for shard, host in lane.waiting.items()
        ]
        busiest = max((lane.free_at for lane in self._lanes.values()), default=float("-inf"))
        self._count, self._lanes = max_concurrency, {}
        self._rest_until = max(self._rest_until, busiest)
        for shard, host in waiting:
            self.request(shard, host)

    def set_away(self, slots: Iterable[IdentifySlots]) -> None:
        """The slots of hosts that pace themselves just now, being out of touch."""
        self._away = tuple(slots)

    def request(self, shard: int, host: str) -> None:
        self._lane(shard).waiting[shard] = host

    def used(self, shard: int, now: float) -> None:
        """The IDENTIFY was written at ``now``; also counts one that nobody granted."""
        lane = self._lane(shard)
        lane.waiting.pop(shard, None)
        lane.take_back(shard)
        lane.rests_until = max(lane.rests_until, now + self._interval)
        if self.budget is not None:
            left = max(0, self.budget.remaining - 1)
            self.budget = msgspec.structs.replace(self.budget, remaining=left)

    def returned(self, shard: int) -> None:
        """``shard`` does not want a permit any more, or did not use it."""
        lane = self._lane(shard)
        lane.waiting.pop(shard, None)
        lane.take_back(shard)

    def host_lost(self, host: str, now: float) -> None:
        """Forgets what ``host`` asked for.

        What it was granted may be used unseen: its lane stays taken until the permit expires, and
        rests as after a use.
        """
        for lane in self._lanes.values():
            for shard in [s for s, h in lane.waiting.items() if h == host]:
                del lane.waiting[shard]
            if lane.granted is not None and lane.granted.host == host:
                lane.rests_until = max(lane.rests_until, now + self._interval)

    @property
    def waiting(self) -> int:
        """How many shards wait for a permit."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def refusal(self, wall: float) -> str | None:
        """Why nobody gets a permit at present, in words; None if somebody can."""
        if self.blocked is not None:
            return self.blocked
        if self.budget is None or self._to_spend(wall) > 0:
            return None
        hours = (self.budget.resets_at - wall) / 3600
        return (
            f"the identify budget is down to its reserve: {self.budget.remaining} of"
            f" {self.budget.total} left, resets in {hours:.1f} h"
        )

    def dismiss(self) -> list[Waiting]:
        """Takes everybody out of the lanes: they are told to come back later."""
        everybody = [
            Waiting(shard, host)
            for lane in self._lanes.values()
            for shard, host in sorted(lane.waiting.items())
        ]
        for lane in self._lanes.values():
            lane.waiting.clear()
        return everybody

    def grants(self, now: float, wall: float) -> list[Waiting]:
        """The permits to hand out now, at most one a lane, lowest shard first."""
        if now < self._rest_until or self.refusal(wall) or self._in_foreign_slot(wall):
            return []
        given: list[Waiting] = []
        lanes = self._lanes.values()
        out = sum(lane.granted is not None and now < lane.granted_until for lane in lanes)
        for lane in lanes:
            if out + len(given) >= self._to_spend(wall):
                break
            if lane.waiting and now >= lane.free_at:
                shard = min(lane.waiting)
                lane.granted = Waiting(shard, lane.waiting.pop(shard))
                # A permit that is neither used nor returned must not block its lane for ever.
                lane.granted_until = now + _PERMIT_LIFETIME
                given.append(lane.granted)
        return given

    def next_chance(self, now: float, wall: float) -> float | None:
        """Seconds until :meth:`grants` may give something; None if nobody waits."""
        waiting = [lane for lane in self._lanes.values() if lane.waiting]
        if not waiting:
            return None
        soonest = min(max(lane.free_at, self._rest_until) for lane in waiting)
        # A lane that is free and still has somebody waiting is held up by something else.
        pause = soonest - now if soonest > now else _LOOK_AGAIN
        return max(pause, _LOOK_AGAIN) if self._in_foreign_slot(wall) else pause

    def _to_spend(self, wall: float) -> float:
        """Identifies that the budget still allows; those that are out are not taken off."""
        if self.budget is None or wall >= self.budget.resets_at:
            return math.inf
        return self.budget.remaining - math.ceil(self.budget.total * self._reserve)

    def _lane(self, shard: int) -> _Lane:
        return self._lanes.setdefault(shard % self._count, _Lane({}))

    def _in_foreign_slot(self, wall: float) -> bool:
        """Whether a host that paces itself may identify now, or within an interval from now.

        Its window is twice the interval long and it identifies in the first quarter.
        """
        length = 2 * self._interval
        for slots in self._away:
            for moment in (wall, wall + self._interval):
                if math.floor(moment / length) % slots.slots == slots.slot:
                    return True
        return False
