# SPDX-License-Identifier: Apache-2.0
"""Which windows of wall-clock time are whose, for hosts that pace their own identifies. Pure.

A host is told of its windows in its plan, and follows a plan for as long as it does not hear of
another. So what counts is not the newest plan but every plan that a host may still follow: the one
that it last reported in force, and all that were made since. What those say are its *claims*, and
no two hosts ever have claims to the same window.

Hosts need not agree on the number of slots. It is a power of two, so the windows of (s of 2S) are
among those of (s of S), and two claims have windows in common if and only if their slots are equal
modulo the smaller number. A host keeps its slot when the number doubles, and the other half of its
windows is free for a newcomer once the host has reported the plan that takes it away.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from discluster.messages import HostReport
from discluster.plan import FleetPlan, IdentifySlots, SlotClaim

_MOST_SLOTS: Final = 65_536
Claims = Mapping[str, tuple[SlotClaim, ...]]

# Of a host that is out of touch and follows a plan of which nothing was written down.
_ANYTHING = SlotClaim(slot=0, slots=1, since=0)


def paced_hosts(fleet: FleetPlan) -> frozenset[str]:
    """Hosts that may have shards to identify: those with clusters, and those yet to let go."""
    with_clusters = {host for host, entry in fleet.hosts.items() if entry.clusters}
    return frozenset(with_clusters | {grant.host for grant in fleet.granted.values()})


def identify_slots(fleet: FleetPlan, host: str) -> IdentifySlots:
    """What the plan of ``host`` says about pacing."""
    newest = _newest(fleet.slots.get(host, ()))
    return IdentifySlots(
        max_concurrency=fleet.max_concurrency,
        slot=newest.slot,
        slots=newest.slots,
        after=fleet.pace_after,
    )


def share_out(
    claims: Claims,
    wanted: Iterable[str],
    reports: Mapping[str, HostReport],
    generation: int,
    *,
    stopped: Collection[str] = (),
) -> dict[str, tuple[SlotClaim, ...]]:
    """The claims under a plan with this ``generation``, in which ``wanted`` have slots.
    ``stopped``: hosts that identify nothing before they have heard of a newer plan, whatever they
    follow.

    What is returned equals ``claims`` if nobody's windows change; claims that a host has left
    behind go when they do.
    """
    wanted = frozenset(wanted)
    followed = {
        host: () if host in stopped else _followed(claims.get(host), reports.get(host))
        for host in sorted({*claims, *wanted, *reports})
    }
    book = _Book(followed)
    holders = {host for host, held in followed.items() if any(c.slot is not None for c in held)}
    slots = _power_of_two(len(holders.union(wanted)))
    after = dict(followed)
    for host in sorted(wanted, key=lambda host: (_newest(followed[host]).slot is None, host)):
        newest = _newest(followed[host])
        chosen = book.choose(host, newest, slots)
        if chosen != (newest.slot, newest.slots):
            claim = SlotClaim(slot=chosen[0], slots=chosen[1], since=generation)
            after[host] = (*followed[host], claim)
            book.add(host, claim)
    for host in holders.difference(wanted):
        if _newest(followed[host]).slot is not None:
            after[host] = (*followed[host], SlotClaim(since=generation))
    after = {host: held for host, held in after.items() if host in wanted or host in holders}
    return after if _news(after) != _news(claims) else dict(claims)


def _followed(
    claims: tuple[SlotClaim, ...] | None, report: HostReport | None
) -> tuple[SlotClaim, ...]:
    """Those that the host may follow, or come to follow."""
    if report is None:
        return (_ANYTHING,) if claims is None else claims
    old = [claim for claim in claims or () if claim.since <= report.plan_generation]
    later = (claims or ())[len(old) :]
    if report.slots is None:
        return (*old[-1:], *later)
    return (_claimed(report.slots, report.plan_generation), *later)


def _claimed(slots: IdentifySlots, generation: int) -> SlotClaim:
    """What a host reports; older versions numbered the slots in another way."""
    if slots.slot is None:
        return SlotClaim(since=generation)
    count = slots.slots
    if not 0 <= slots.slot < count <= _MOST_SLOTS or count != _power_of_two(count):
        return msgspec.structs.replace(_ANYTHING, since=generation)
    return SlotClaim(slot=slots.slot, slots=count, since=generation)


def _newest(claims: tuple[SlotClaim, ...]) -> SlotClaim:
    return claims[-1] if claims else SlotClaim()


def _news(claims: Claims) -> dict[str, tuple[int | None, int]]:
    """What the hosts are told."""
    newest = {host: _newest(held) for host, held in claims.items()}
    return {h: (claim.slot, claim.slots) for h, claim in newest.items()}


def _power_of_two(hosts: int) -> int:
    """The least that is enough for so many."""
    return 1 << max(0, hosts - 1).bit_length()


class _Book:
    """Who has a claim to each window; time repeats itself every ``_length`` windows."""

    def __init__(self, claims: Claims) -> None:
        most = max((c.slots for held in claims.values() for c in held), default=1)
        self._length = max(_power_of_two(len(claims)), most)
        self._owners: list[set[str]] = [set() for _ in range(self._length)]
        self._windows: dict[str, set[int]] = {}
        self._lowest: dict[int, int] = {}  # by number of slots: none below it is free for all
        for host, held in claims.items():
            for claim in held:
                self.add(host, claim)

    def add(self, host: str, claim: SlotClaim) -> None:
        if claim.slot is not None:
            for window in range(claim.slot, self._length, claim.slots):
                self._owners[window].add(host)
                self._windows.setdefault(host, set()).add(window)

    def choose(self, host: str, newest: SlotClaim, slots: int) -> tuple[int | None, int]:
        """Its slot and of how many: its own if it can, none if there is none yet."""
        own = newest.slot
        if own is not None and newest.slots <= slots and self._free(host, own, newest.slots):
            return own, slots
        if own is not None and self._free(host, own % slots, slots):
            return own % slots, slots
        slot = min(self._candidates(host, slots), default=None)
        if slot is not None:
            return slot, slots
        return (own, newest.slots) if own is not None and self._mine(host, newest) else (None, 1)

    def _candidates(self, host: str, slots: int) -> Iterator[int]:
        """The lowest slot that nobody has, and those that nobody else has."""
        for slot in {window % slots for window in self._windows.get(host, ())}:
            if self._free(host, slot, slots):
                yield slot
        # Windows are only ever taken, so what was not free before is not looked at again.
        lowest = self._lowest.get(slots, 0)
        while lowest < slots and not self._free("", lowest, slots):
            lowest += 1
        self._lowest[slots] = lowest
        if lowest < slots:
            yield lowest

    def _free(self, host: str, slot: int, slots: int) -> bool:
        return all(self._owners[w] <= {host} for w in range(slot, self._length, slots))

    def _mine(self, host: str, claim: SlotClaim) -> bool:
        return claim.slot is not None and self._free(host, claim.slot, claim.slots)
