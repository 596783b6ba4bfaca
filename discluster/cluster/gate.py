# SPDX-License-Identifier: Apache-2.0
"""The gate between a cluster's shards and Discord (see :mod:`discluster.clearance`).

Closed while Discord rejects a shard of this cluster, or, by CONTROL's word, of the fleet; and for a
shard that Discord closed with 4003 until it is known that Discord takes the token. Without CONTROL
the cluster decides for itself, by what it knows. And closed without a lease, which nobody can
decide here.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from discluster.clearance import Clearing
from discluster.clock import Clock, at_most
from discluster.cluster.lease import ClusterLease
from discluster.gateway.closecodes import Action, rule_for
from discluster.gateway.ending import Ending
from discluster.messages import Clearance, ClearanceCase, Halt, Message

log = logging.getLogger(__name__)

NOT_AUTHENTICATED: Final = 4003
_SPREAD: Final = 0.05  # seconds for each shard that is let go, so that they do not dial in step
_LONGEST_SPREAD: Final = 5.0


class ClusterGate:
    """Implements ``discluster.gateway.contracts.Gate`` for all shards of a cluster."""

    def __init__(self, *, lease: ClusterLease, clock: Clock, rng: random.Random) -> None:
        self._lease = lease
        self._away = True
        self._clock = clock
        self._rng = rng
        self._clearing = Clearing[int](clear=self._clear, release=self._release)
        self._suspects: set[int] = set()
        self._cleared: set[int] = set()
        self._released: dict[int, float] = {}
        self._rejected: dict[int, str] = {}
        self._halt: str | None = None
        self._informed = asyncio.Event()
        self._wake = asyncio.Event()
        self._pulse = asyncio.Event()

    # --- what shards ask and tell (see contracts.Gate) ---

    def may_run(self) -> bool:
        return self._lease.may_run()

    def obstacle(self, shard: int) -> str | None:
        if (unleased := self.unleased) is not None:
            return unleased
        if (rejection := self._rejection()) is not None:
            return rejection
        if shard in self._released:
            return "Discord takes the token again: all shards return, one after the other"
        if shard not in self._suspects or shard in self._cleared:
            return None
        return "Discord closed it (4003 Not authenticated); one shard tries for all whether it may"

    def changed(self) -> Coroutine[Any, Any, object]:
        # Not a coroutine function: what happens before the caller awaits it must count.
        return self._pulse.wait()

    def accepted(self, shard: int) -> None:
        if shard in self._suspects:
            self._suspects.discard(shard)
            self._cleared.discard(shard)
            self._clearing.accepted(shard)
            self._news()

    def ended(self, shard: int, ending: Ending) -> None:
        closed = ending.cause == "closed"
        if closed and rule_for(ending.code).action is Action.FATAL:
            # The canary that was rejected holds its place: nobody follows it.
            self._rejected[shard] = ending.text
        elif closed and ending.code == NOT_AUTHENTICATED:
            self._suspects.add(shard)
            self._try_again(shard)
        elif shard in self._cleared and ending.cause != "invalid":
            # Op 9 tells nothing of the token; the next thing is an IDENTIFY, which does.
            self._try_again(shard)

    @property
    def unleased(self) -> str | None:
        """Why no shard at all may run, in words; None if they may."""
        return self._lease.obstacle(control_away=self._away)

    def renewed(self) -> None:
        """A lease came where there was none."""
        self._beat()

    def left(self, shard: int) -> None:
        """The shard is not this cluster's any more, or about to be opened anew."""
        self._suspects.discard(shard)
        self._cleared.discard(shard)
        self._released.pop(shard, None)
        self._rejected.pop(shard, None)
        self._clearing.leave(shard)
        self._news()

    # --- what CONTROL says ---

    async def informed(self, limit: float) -> None:
        """Returns when CONTROL has said how things stand, or is away, or after ``limit`` seconds:
        a cluster that was restarted must not dial with what Discord rejected before.
        """
        await at_most(limit, self._informed.wait(), clock=self._clock)

    def control_connected(self, send: Callable[[Message], None]) -> None:
        self._away = False
        self._clearing.connect(lambda shard, state: send(ClearanceCase(shard=shard, state=state)))

    def control_away(self) -> None:
        """What it said last stays in force."""
        self._away = True
        self._clearing.disconnect(self._clock.monotonic())
        self._informed.set()
        self._news()

    def control_said(self, message: Clearance | Halt) -> None:
        if isinstance(message, Halt):
            if message.reason != self._halt and message.reason is not None:
                log.error("no shard dials any more: %s", message.reason)
            self._halt = message.reason
            self._informed.set()
        elif message.shard is None:
            self._clearing.released()
        else:
            self._clearing.cleared(message.shard, self._clock.monotonic())
        self._news()

    # --- the loop ---

    async def run(self) -> None:
        """Names one canary after the other, and opens for those that were let go."""
        while True:
            self._wake.clear()
            pause = self._step(self._clock.monotonic())
            if pause is None:
                await self._wake.wait()
            else:
                await at_most(pause, self._wake.wait(), clock=self._clock)

    def _step(self, now: float) -> float | None:
        due = [shard for shard, at in self._released.items() if at <= now]
        for shard in due:
            del self._released[shard]
        if due:
            self._beat()
        pauses = [at - now for at in self._released.values()]
        if self._rejection() is None and (pause := self._clearing.step(now)) is not None:
            pauses.append(pause)
        return min(pauses, default=None)

    def _rejection(self) -> str | None:
        for shard, text in self._rejected.items():
            return f"shard {shard} was rejected: {text}"
        return self._halt

    def _try_again(self, shard: int) -> None:
        if shard in self._cleared:
            self._cleared.discard(shard)
            self._clearing.failed(shard, self._clock.monotonic())
        self._clearing.ask(shard)
        self._news()

    def _clear(self, shard: int) -> None:
        log.info("Shard %d tries for all whether Discord takes the token", shard)
        self._cleared.add(shard)
        self._beat()

    def _release(self, shards: Sequence[int]) -> None:
        now = self._clock.monotonic()
        spread = min(_LONGEST_SPREAD, _SPREAD * len(shards))
        for shard in shards:
            self._suspects.discard(shard)
            self._cleared.discard(shard)
            self._released[shard] = now + self._rng.uniform(0.0, spread)
        log.info("Discord takes the token: %d shards return", len(shards))

    def _news(self) -> None:
        self._wake.set()
        self._beat()

    def _beat(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()
