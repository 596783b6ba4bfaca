# SPDX-License-Identifier: Apache-2.0
"""Who may hold a connection to a listener, and who has to go when there are too many. Pure.

A connection is a *stranger's* until it is known whose it is. Strangers are bounded in all and by
address: whoever has the most gives way, so that one attacker only ever displaces itself, and a
newcomer from another address always gets in. A stranger has a moment to say who it is; until it is
over, a crowd that comes from one address at once, as a fleet behind one router does, is not thrown
out by its own. Connections that are known are bounded by name, the newest stay.
"""

import ipaddress
from collections.abc import Callable, Hashable
from typing import Final

import msgspec

# One subscriber has so much of IPv6 at least, and can take any address in it.
_IPV6_PREFIX: Final = 64


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of ``strangers`` in all and ``per_address``, and of each name (``per_name``).
    ``moment``: seconds that a stranger has before another from its own address displaces it.
    """

    strangers: int
    per_address: int
    per_name: int
    moment: float = 2.0


class Guest:
    """One connection. ``drop``: ends it at once; called for one that has to go."""

    def __init__(self, address: Hashable, *, arrived: float, drop: Callable[[], None]) -> None:
        self.address = address
        self.arrived = arrived
        self.drop = drop
        self.name: Hashable | None = None


class Admission:
    """Of one listener. ``turned_away``: connections that were not taken, or dropped for others;
    ``strangers``, ``known``: connections that are there.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        # In the order in which they came.
        self._strangers: dict[Hashable, dict[Guest, None]] = {}
        self._known: dict[Hashable, dict[Guest, None]] = {}
        self.strangers = self.known = self.turned_away = 0

    def arrive(self, guest: Guest) -> bool:
        """Whether ``guest`` is taken; others may be dropped for it."""
        own = self._strangers.get(guest.address, {})
        if len(own) >= self._bounds.per_address and not self._displace(own, guest):
            return False
        if self.strangers >= self._bounds.strangers:
            most = max(self._strangers.values(), key=len)
            # Ties go against the newcomer's own address.
            crowd = own if len(own) >= len(most) else most
            if crowd is own and not self._displace(own, guest):
                return False
            if crowd is not own:
                self._dismiss(next(iter(crowd)))
        self._strangers.setdefault(guest.address, {})[guest] = None
        self.strangers += 1
        return True

    def _displace(self, crowd: dict[Guest, None], newcomer: Guest) -> bool:
        oldest = next(iter(crowd))
        if newcomer.arrived - oldest.arrived < self._bounds.moment:
            self.turned_away += 1
            return False
        self._dismiss(oldest)
        return True

    def recognise(self, guest: Guest, name: Hashable) -> None:
        """It is ``name``'s from now on. The oldest of too many with one name are dropped."""
        if guest.name is not None or not self._forget(guest):
            return
        guest.name = name
        own = self._known.setdefault(name, {})
        own[guest] = None
        self.known += 1
        if len(own) > self._bounds.per_name:
            self._dismiss(next(iter(own)))

    def leave(self, guest: Guest) -> None:
        """Its connection is over. May be called again."""
        self._forget(guest)

    def crowd(self) -> tuple[Hashable, int] | None:
        """The address with the most strangers, and how many."""
        found = max(self._strangers.items(), key=lambda item: len(item[1]), default=None)
        return (found[0], len(found[1])) if found is not None else None

    def _dismiss(self, guest: Guest) -> None:
        self.turned_away += 1
        self._forget(guest)
        guest.drop()

    def _forget(self, guest: Guest) -> bool:
        """Whether it was there."""
        rooms = self._strangers if guest.name is None else self._known
        key = guest.address if guest.name is None else guest.name
        room = rooms.get(key, {})
        if guest not in room:
            return False
        del room[guest]
        if not room:
            del rooms[key]
        if guest.name is None:
            self.strangers -= 1
        else:
            self.known -= 1
        return True


def origin(address: str) -> str:
    """What counts as one address: of IPv6 the network that one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
