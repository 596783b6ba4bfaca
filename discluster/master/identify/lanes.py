# SPDX-License-Identifier: Apache-2.0
"""The identify lanes: which shard may start a session now. Pure; the caller passes the time.

One lane per ``shard_id % max_concurrency`` (Discord: Gateway, Rate Limiting). A permit says from
when until when it may be used. It leaves a moment ahead of its time, so that its way to the host
costs nothing. The lane rests for the interval after the use, since network delay shrinks the gap at
Discord's end; a permit of which nothing was heard counts as used at the last instant at which it
could be. How many permits the daily budget allows, the caller says.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from discluster.messages import PERMIT_LIFE
from discluster.plan import SlotClaim

AHEAD: Final = 0.25
# Two machines' seconds, over the life of a permit and the age of what they know of their clocks.
DRIFT: Final = 0.1
_LOOK_AGAIN: Final = 0.25
_SHORTEST_USE: Final = 0.5
_IDLE_PERMITS: Final = 2
_NEVER: Final = float("-inf")


def taken_at_most(interval: float) -> float:
    """Seconds from a grant after which its lane is free, whatever became of the permit."""
    return AHEAD + PERMIT_LIFE + DRIFT + interval


class Grant(msgspec.Struct, frozen=True):
    """A permit: ``shard`` on ``host`` may identify from ``since`` to ``until``."""

    shard: int
    host: str
    since: float
    until: float


class _Lane(msgspec.Struct):
    """``rests_until``: after the newest use. ``taken_until``: for as long as the permit that is out
    may be used, and the rest after that; two fields, since giving a permit back must not end the
    rest after another's use. ``lost``: the permit of a host that is lost, which may have used it
    whatever it says later; it counts as out, and does not come back.
    """

    waiting: dict[int, str]
    lost: Grant | None = None
    rests_until: float = _NEVER
    granted: Grant | None = None
    taken_until: float = _NEVER

    @property
    def free_at(self) -> float:
        """From when on the next permit may be used."""
        return max(self.rests_until, self.taken_until)

    def take_back(self, shard: int, host: str) -> Grant | None:
        """The permit of ``shard`` is over; which that was, if it was out."""
        grant = self.granted
        if grant is None or (grant.shard, grant.host) != (shard, host):
            return None
        self.granted, self.taken_until = None, _NEVER
        return grant

    def lose(self) -> None:
        """Nothing that is heard of the permit any more frees the lane before its time."""
        self.lost, self.granted = self.granted, None

    def was_lost(self, shard: int, host: str) -> bool:
        """Whether this is the word, come late, of the permit that was lost."""
        lost = self.lost is not None and (self.lost.shard, self.lost.host) == (shard, host)
        if lost:
            self.lost = None
        return lost

    def forget(self, shard: int, host: str) -> None:
        """``host`` does not wait for ``shard`` any more; another that it moved to may."""
        if self.waiting.get(shard) == host:
            del self.waiting[shard]


class Lanes:
    """Requests in, grants out. Times are seconds of one monotonic clock, except where said."""

    def __init__(self, *, interval: float, rest_until: float) -> None:
        """``rest_until``: no grant before; for a MASTER that does not know what its predecessor
        granted last.
        """
        self._interval = interval
        self._rest_until = rest_until
        self._lanes: dict[int, _Lane] = {}
        self._count = 1
        self._away: tuple[SlotClaim, ...] = ()
        # Permits that came to nothing, of each shard since it used one.
        self._idle: dict[int, int] = {}

    def resize(self, max_concurrency: int) -> None:
        """Sets the number of lanes; those that wait keep waiting, in their new lane."""
        if max_concurrency == self._count:
            return
        waiting = [
            (shard, host) for lane in self._lanes.values() for shard, host in lane.waiting.items()
        ]
        busiest = max((lane.free_at for lane in self._lanes.values()), default=_NEVER)
        self._count, self._lanes = max_concurrency, {}
        self._rest_until = max(self._rest_until, busiest)
        for shard, host in waiting:
            self.request(shard, host)

    def rest(self, until: float) -> None:
        """No lane grants anything before."""
        self._rest_until = max(self._rest_until, until)

    def set_away(self, slots: Iterable[SlotClaim]) -> None:
        """The slots of hosts that pace themselves just now, being out of touch."""
        self._away = tuple(slots)

    def request(self, shard: int, host: str) -> None:
        self._lane(shard).waiting[shard] = host

    def used(self, shard: int, host: str, now: float, *, at: float | None = None) -> bool:
        """The IDENTIFY was written at ``at``, or will be at the latest; None: just now. False if no
        permit of ``shard`` was out.
        """
        lane = self._lane(shard)
        lane.forget(shard, host)
        grant = lane.take_back(shard, host)
        if grant is not None:
            self._idle.pop(shard, None)
        at = now if at is None else min(at, now + AHEAD + PERMIT_LIFE)
        if grant is not None:
            at = max(at, grant.since)
        lane.rests_until = max(lane.rests_until, at + self._interval)
        return grant is not None or lane.was_lost(shard, host)

    def returned(self, shard: int, host: str) -> bool:
        """``shard`` does not want a permit any more, or did not use it; True if it had one."""
        lane = self._lane(shard)
        lane.forget(shard, host)
        return lane.take_back(shard, host) is not None

    def host_lost(self, host: str) -> int:
        """Forgets what ``host`` asked for. How many permits it has: they may be used unseen, so
        their lanes stay taken.
        """
        for lane in self._lanes.values():
            for shard in [s for s, h in lane.waiting.items() if h == host]:
                del lane.waiting[shard]
        holding = [
            lane
            for lane in self._lanes.values()
            if lane.granted is not None and lane.granted.host == host
        ]
        for lane in holding:
            lane.lose()
        return len(holding)

    @property
    def waiting(self) -> dict[int, str]:
        """The shards that wait for a permit, and who asked for each."""
        lanes = self._lanes.values()
        return {shard: host for lane in lanes for shard, host in lane.waiting.items()}

    def busy(self, now: float) -> Iterator[tuple[int, int, int | None, float]]:
        """Lanes in use: number, how many wait, whose permit is out, seconds until it is free."""
        for number, lane in sorted(self._lanes.items()):
            granted = lane.granted if now < lane.taken_until else None
            if lane.waiting or granted is not None:
                free_in = max(0.0, max(lane.free_at, self._rest_until) - now)
                yield number, len(lane.waiting), granted.shard if granted else None, free_in

    def dismiss(self, shard: int) -> None:
        """Takes ``shard`` out of its lane: it is told to come back later."""
        self._lane(shard).waiting.pop(shard, None)

    def grants(
        self, now: float, wall: float, *, limit: int, below: int | None = None
    ) -> list[Grant]:
        """The permits to hand out now, at most one a lane, lowest shard first. ``limit``: how many
        the budget allows. ``below``: shards from this one on must wait.
        """
        given: list[Grant] = []
        for lane in self._lanes.values():
            if len(given) >= limit:
                break
            may = (s for s in lane.waiting if below is None or s < below)
            shard = min(may, key=self._turn, default=None)
            since = max(now, lane.free_at, self._rest_until)
            if shard is None or since > now + AHEAD:
                continue
            until = self._usable_until(since, wall - now)
            if until is not None:
                self._idle[shard] = self._idle.get(shard, 0) + 1
                lane.granted = Grant(shard, lane.waiting.pop(shard), since, until)
                # What is neither used nor returned must not block its lane for ever.
                lane.taken_until = until + DRIFT + self._interval
                given.append(lane.granted)
        return given

    def _turn(self, shard: int) -> tuple[int, int]:
        """Lowest first; who lets permits lapse again and again comes after those that do not."""
        return max(0, self._idle.get(shard, 0) - _IDLE_PERMITS), shard

    def next_chance(self, now: float) -> float | None:
        """Seconds until :meth:`grants` may give something; None if nobody waits."""
        waiting = [lane for lane in self._lanes.values() if lane.waiting]
        if not waiting:
            return None
        soonest = min(max(lane.free_at, self._rest_until) for lane in waiting) - AHEAD
        # A lane that is free and still has somebody waiting is held up by something else.
        return soonest - now if soonest > now else _LOOK_AGAIN

    def _lane(self, shard: int) -> _Lane:
        return self._lanes.setdefault(shard % self._count, _Lane({}))

    def _usable_until(self, since: float, to_wall: float) -> float | None:
        """Until when a permit from ``since`` on may be used; None if not long enough.

        A host that paces itself identifies in the first quarter of its windows, which are twice the
        interval long. We keep one and a half intervals from that quarter, on both sides: the
        interval, and the half of one by which clocks may differ.
        """
        length = 2 * self._interval
        latest = since + PERMIT_LIFE
        window = math.floor((since + to_wall) / length)
        for slots in self._away:
            if slots.slot is None:
                continue
            windows = (slots.slot - window) % slots.slots
            starts = (window + windows) * length - to_wall
            latest = min(latest, starts - 1.5 * self._interval)
        return latest if latest - since >= _SHORTEST_USE else None
