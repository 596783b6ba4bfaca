# SPDX-License-Identifier: Apache-2.0
"""Identify permits on one host: asked of MASTER, or taken from the host's slot while it is away.

Whatever is in doubt counts as used: a permit whose cluster is gone may have been used the instant
before, and an identify that MASTER was not told of yet must hold up its lane there. A permit says
from when until when it may be used: MASTER's by its own clock, ours by this machine's, which
CONTROL and its clusters share.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from discluster.clock import DAY, Clock, at_most
from discluster.control import slots
from discluster.control.allowance import Purse
from discluster.control.mastertime import MasterTime
from discluster.messages import (
    Allowance,
    Message,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
)
from discluster.plan import IdentifySlots

log = logging.getLogger(__name__)

_SHORTEST_PAUSE: Final = 0.05
_DENIAL_PAUSE: Final = 15.0


class _Asker(msgspec.Struct, frozen=True):
    """Where a request came from."""

    cluster: int
    reply: Callable[[Message], None]


class _Turn(msgspec.Struct, frozen=True):
    """The newest grant to a bucket from our slot: ``taken`` at this monotonic second."""

    window: int
    taken: float
    before: "_Turn | None"


class _Held(msgspec.Struct, frozen=True):
    """A permit that is out. ``turn``: of our slot, and what to restore if it comes back; None: it
    is MASTER's. ``told``: MASTER counts it as used already.
    """

    cluster: int
    since: float
    until: float
    turn: _Turn | None = None
    told: bool = False


class PermitDesk:
    """Every shard that waits for its turn to identify, and who told us so."""

    def __init__(self, *, clock: Clock, interval: float, purse: Purse) -> None:
        """``interval``: seconds between two identifies of one bucket."""
        self._purse = purse
        self._clock = clock
        self._interval = interval
        self._waiting: dict[int, _Asker] = {}
        self._granted: dict[int, _Held] = {}
        self._unseen: list[PermitUsed] = []  # their instants by our clock
        self._to_master: Callable[[Message], None] | None = None
        self._time: MasterTime | None = None
        self._slots: IdentifySlots | None = None
        # An earlier CONTROL may have had a permit from MASTER, or taken this window, just now.
        self._lost_at = clock.monotonic()
        self._turns: dict[int, _Turn] = {}
        self._wake = asyncio.Event()
        self._blocked = False

    def block(self, blocked: bool) -> None:
        """Whether nobody may identify, since Discord rejected a shard of this host or fleet."""
        if blocked != self._blocked:
            self._blocked = blocked
            self._wake.set()

    def follow(self, identify: IdentifySlots) -> None:
        """The slots of the plan in force."""
        self._slots = identify
        self._wake.set()

    def master_connected(self, send: Callable[[Message], None], time: MasterTime) -> None:
        """From now on MASTER decides; it is told of every identify that it could not see, and of
        every shard that waits or holds a permit.
        """
        self._to_master, self._time = send, time
        send(self._purse.report())
        for used in self._unseen:
            self._tell_used(used)
        self._unseen.clear()
        for shard, held in self._granted.items():
            # It may identify any moment.
            self._tell_used(_used(shard, held, held.until))
            self._granted[shard] = msgspec.structs.replace(held, told=True)
        for shard in self._waiting:
            send(PermitRequest(shard=shard))

    def master_lost(self) -> None:
        self._to_master = None
        self._lost_at = self._clock.monotonic()
        self._wake.set()

    def request(self, shard: int, *, cluster: int, reply: Callable[[Message], None]) -> None:
        if shard in self._granted:
            # It asks again without a word about its permit: it was restarted, or cut off from us.
            self.used(shard)
        self._waiting[shard] = _Asker(cluster, reply)
        self._tell(PermitRequest(shard=shard))
        self._wake.set()

    def used(self, shard: int, *, at: float | None = None) -> None:
        """The IDENTIFY was written at ``at``, or just now."""
        held = self._granted.pop(shard, None)
        if held is not None and held.told:
            return
        now = self._clock.monotonic()
        # A cluster's word may be anything, and MASTER must take ours.
        at = now if at is None else min(max(at, now - DAY), now + DAY)
        self._tell_used(_used(shard, held, at))

    def returned(self, shard: int) -> None:
        """It does not want a permit any more, or has not used the one it had."""
        self._waiting.pop(shard, None)
        held = self._granted.pop(shard, None)
        if held is not None and held.turn is not None:
            self._purse.give_back()
            self._give_back(held.turn, shard)
        if held is None or not held.told:
            self._tell(PermitReturned(shard=shard))

    def cluster_gone(self, cluster: int) -> None:
        """Nobody waits there any more; what it was granted may have been used."""
        now = self._clock.monotonic()
        for shard in [s for s, asker in self._waiting.items() if asker.cluster == cluster]:
            self.returned(shard)
        for shard, held in [(s, h) for s, h in self._granted.items() if h.cluster == cluster]:
            if now < held.since:
                self.returned(shard)
            else:
                self.used(shard, at=held.until)

    def answer(self, message: Permit | PermitDenied | Allowance) -> None:
        """What MASTER said. A permit for a shard that gave up waiting goes back at once."""
        if isinstance(message, Allowance):
            if (report := self._purse.take(message)) is not None:
                self._tell(report)
            return
        asker = self._waiting.get(message.shard)
        if isinstance(message, Permit):
            self._take_permit(message, asker)
        elif asker is not None:
            del self._waiting[message.shard]
            asker.reply(message)

    def _take_permit(self, permit: Permit, asker: _Asker | None) -> None:
        shard = permit.shard
        if asker is None or self._time is None:
            self._tell(PermitReturned(shard=shard))
            return
        since, until = self._time.not_before(permit.since), self._time.surely_before(permit.until)
        if until <= max(since, self._clock.monotonic()):
            # It took so long, or we stood still, that it must not be used any more.
            self._tell(PermitReturned(shard=shard))
            self._tell(PermitRequest(shard=shard))
            return
        del self._waiting[shard]
        self._grant(shard, asker, _Held(asker.cluster, since, until))

    def _grant(self, shard: int, asker: _Asker, held: _Held) -> None:
        self._granted[shard] = held
        asker.reply(Permit(shard=shard, since=held.since, until=held.until))

    async def run(self) -> None:
        """Grants from the host's slots for as long as MASTER is away."""
        while True:
            self._wake.clear()
            alone = self._to_master is None and not self._blocked
            if alone and self._waiting and self._slots is not None:
                self._refuse_without_share()
                self._grant_from_slot(self._slots)
                pause = self._until_next_slot(self._slots)
                await at_most(pause, self._wake.wait(), clock=self._clock)
            else:
                await self._wake.wait()

    def _tell(self, message: Message) -> None:
        if self._to_master is not None:
            self._to_master(message)

    def _tell_used(self, used: PermitUsed) -> None:
        """``used``: its instant by our clock."""
        if self._to_master is None or self._time is None or used.at is None:
            self._unseen.append(used)
        else:
            self._to_master(msgspec.structs.replace(used, at=self._time.there(used.at)))

    def _refuse_without_share(self) -> None:
        if (reason := self._purse.refusal()) is None:
            return
        for shard, asker in self._waiting.items():
            asker.reply(PermitDenied(shard=shard, reason=reason, retry_after=_DENIAL_PAUSE))
        self._waiting.clear()

    def _grant_from_slot(self, identify: IdentifySlots) -> None:
        # What MASTER granted just before it went away may have been used only now, and it may not
        # have noticed yet that we are out of touch.
        if self._clock.monotonic() - self._lost_at < max(self._interval, identify.after):
            return
        window = slots.current_window(self._clock.wall(), identify, self._interval)
        if window is None:
            return
        now = self._clock.monotonic()
        until = now + slots.ends_in(self._clock.wall(), window, self._interval)
        for shard in sorted(self._waiting):
            turn = self._turn(shard % identify.max_concurrency, window)
            if turn is not None and self._purse.spend():
                self._turns[shard % identify.max_concurrency] = turn
                log.info("MASTER is away: shard %d identifies in this host's slot", shard)
                asker = self._waiting.pop(shard)
                self._grant(shard, asker, _Held(asker.cluster, now, until, turn))

    def _turn(self, bucket: int, window: int) -> _Turn | None:
        """The bucket's turn in this window, if it is not taken. The second clock is for a wall
        clock that is set back.
        """
        now, last = self._clock.monotonic(), self._turns.get(bucket)
        if last is not None and (now - last.taken < self._interval or last.window == window):
            return None
        # What was before the last one matters no more.
        before = msgspec.structs.replace(last, before=None) if last is not None else None
        return _Turn(window, now, before)

    def _give_back(self, turn: _Turn, shard: int) -> None:
        assert self._slots is not None
        bucket = shard % self._slots.max_concurrency
        if self._turns.get(bucket) is turn:
            del self._turns[bucket]
            if turn.before is not None:
                self._turns[bucket] = turn.before
            self._wake.set()

    def _until_next_slot(self, identify: IdentifySlots) -> float:
        now = self._clock.wall()
        return max(_SHORTEST_PAUSE, slots.next_window_start(now, identify, self._interval) - now)


def _used(shard: int, held: _Held | None, at: float) -> PermitUsed:
    """``held``: its permit; None if an earlier CONTROL gave it."""
    return PermitUsed(shard=shard, at=at, alone=held is not None and held.turn is not None)
