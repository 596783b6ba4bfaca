# SPDX-License-Identifier: Apache-2.0
"""Calls under way at one place: whom they were passed on to, and who still owes an answer. Pure;
the caller passes the time.

Cluster, CONTROL and MASTER each keep such a table; a call goes from one to the next and comes back
the same way. Whatever is lost, late, repeated or forged: each cluster that was asked gets exactly
one entry, from whom it was expected or from here, and then the call is over.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Final, Protocol

import msgspec

from discluster.messages import NOTHING, CallFault

MOST_TOGETHER: Final = 8 * 1024 * 1024
"""Bytes of the values of one call; what comes beyond is passed on as too large."""
_MARGIN: Final = 0.25
_PART: Final = 0.1


def shortened(timeout: float) -> float:
    """Seconds for whoever a call is passed on to: less than the own ones, so that "time-out" comes
    from where it happened.
    """
    return timeout - min(_MARGIN, timeout * _PART)


class Receiver(Protocol):
    """Who gets what comes of one call."""

    def asked(self, hosts: Mapping[str, tuple[int, ...]]) -> None:
        """These clusters are asked; an answer of each follows. Maybe called again, with others."""
        ...

    def all_asked(self, unasked: str | None, missing: CallFault) -> None:
        """No more are asked; others that were wanted are ``missing``, and an answer of each that
        says so follows. ``unasked``: why others of the fleet are not asked, in words.
        """
        ...

    def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
        """Once for each cluster that was asked or is missing."""
        ...

    def over(self) -> None:
        """Nothing follows."""
        ...


class _Pending:
    def __init__(
        self,
        asker: Hashable,
        receiver: Receiver,
        until: float,
        wanted: frozenset[int] | None,
        namer: Hashable,
    ) -> None:
        self.asker = asker
        self.receiver = receiver
        self.until = until
        self.wanted = wanted
        self.namer: Hashable | None = namer
        self.known: set[int] = set()
        self.owed: dict[int, Hashable] = {}
        self.room = MOST_TOGETHER


class Calls:
    """Of one place. *Ways* are where answers come from, and *askers* where calls do: anything that
    can be a key. ``most`` calls can be under way.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._number = 0
        self._pending: dict[int, _Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def busy(self, asker: Hashable, most: int) -> str | None:
        """Why no call of ``asker``, who can have ``most`` under way, is taken now, in words."""
        if len(self._pending) >= self._most:
            return f"{self._most} calls are under way already"
        if sum(call.asker == asker for call in self._pending.values()) >= most:
            return f"{most} calls of this asker are under way already"
        return None

    @property
    def next_deadline(self) -> float | None:
        """When the first of them is out of time."""
        return min((call.until for call in self._pending.values()), default=None)

    def begin(
        self,
        asker: Hashable,
        receiver: Receiver,
        *,
        until: float,
        namer: Hashable,
        wanted: Collection[int] | None = None,
    ) -> int:
        """The number of a new call. ``namer``: by which way it is told who is asked, see
        :meth:`asked` and :meth:`all_asked`. ``wanted``: clusters that must have an entry.
        """
        self._number += 1
        named = None if wanted is None else frozenset(wanted)
        self._pending[self._number] = _Pending(asker, receiver, until, named, namer)
        return self._number

    def asked(
        self, number: int, namer: Hashable, hosts: Mapping[str, Mapping[int, Hashable]]
    ) -> None:
        """Clusters of ``hosts`` are asked; the answer of each will come by that way. Those that are
        known, or not wanted, are passed over.
        """
        call = self._pending.get(number)
        if call is None or call.namer != namer:
            return
        fresh: dict[str, tuple[int, ...]] = {}
        for host, ways in hosts.items():
            for cluster, way in ways.items():
                if cluster in call.known or (
                    call.wanted is not None and cluster not in call.wanted
                ):
                    continue
                call.known.add(cluster)
                call.owed[cluster] = way
                fresh[host] = (*fresh.get(host, ()), cluster)
        if fresh:
            call.receiver.asked(fresh)

    def all_asked(
        self,
        number: int,
        namer: Hashable,
        *,
        missing: CallFault,
        unasked: str | None = None,
    ) -> None:
        """No more are asked. ``missing``: the answer of a cluster that is wanted and was not."""
        call = self._pending.get(number)
        if call is None or call.namer != namer:
            return
        call.namer = None
        nowhere = sorted((call.wanted or frozenset()) - call.known)
        call.known.update(nowhere)
        call.receiver.all_asked(unasked, missing)
        for cluster in nowhere:
            call.receiver.answered(cluster, NOTHING, missing)
        self._end_if_over(number, call)

    def answered(
        self,
        number: int,
        way: Hashable,
        cluster: int,
        value: msgspec.Raw = NOTHING,
        fault: CallFault | None = None,
    ) -> None:
        """An answer came by ``way``. One that nobody waits for, or that comes by another way than
        it must, is passed over.
        """
        call = self._pending.get(number)
        if call is None or cluster not in call.owed or call.owed[cluster] != way:
            return
        if fault is None and len(value) > call.room:
            value, fault = NOTHING, _beyond()
        if fault is None:
            call.room -= len(value)
            # A part of what came keeps all of it, which may be much longer.
            value = value.copy()
        self._settle(number, call, cluster, value, fault)

    def lost(self, way: Hashable, why: str) -> None:
        """Nothing comes by ``way`` any more, for the reason ``why``, in words."""
        away = CallFault(code="away", text=why)
        for number, call in tuple(self._pending.items()):
            for cluster in [c for c, owing in call.owed.items() if owing == way]:
                self._settle(number, call, cluster, NOTHING, away)
            if call.namer == way:
                self.all_asked(number, way, unasked=why, missing=away)

    def forget(self, asker: Hashable) -> None:
        """It is gone: nobody waits for its calls any more, and nothing is told of them."""
        for number, call in tuple(self._pending.items()):
            if call.asker == asker:
                del self._pending[number]

    def abandon(self, number: int) -> None:
        """Nobody waits for this call any more, and nothing is told of it."""
        self._pending.pop(number, None)

    def expire(self, now: float, why: str) -> None:
        """Ends the calls that are out of time; ``why``: what their entries say, in words."""
        late = CallFault(code="time-out", text=why)
        for number, call in tuple(self._pending.items()):
            if call.until > now:
                continue
            for cluster in tuple(call.owed):
                self._settle(number, call, cluster, NOTHING, late)
            if call.namer is not None:
                self.all_asked(number, call.namer, unasked=why, missing=late)

    def _settle(
        self, number: int, call: _Pending, cluster: int, value: msgspec.Raw, fault: CallFault | None
    ) -> None:
        del call.owed[cluster]
        call.receiver.answered(cluster, value, fault)
        self._end_if_over(number, call)

    def _end_if_over(self, number: int, call: _Pending) -> None:
        if not call.owed and call.namer is None and self._pending.pop(number, None) is not None:
            call.receiver.over()


def _beyond() -> CallFault:
    return CallFault(
        code="too-large", text=f"all answers together are beyond {MOST_TOGETHER // 2**20} MiB"
    )
