# SPDX-License-Identifier: Apache-2.0
"""One bound for the guilds of all shards of a cluster."""

from collections import OrderedDict
from typing import Protocol


class Tenant(Protocol):
    """Has guilds in the room."""

    def leave_out(self, guild: str) -> None:
        """There is no room for ``guild``: its image is to be forgotten."""
        ...


class Room:
    """At most ``limit`` bytes. Beyond that the guilds go that have not changed for the longest: in
    a quiet guild a bot is least likely to be asked for anything, and one that is left out stays
    out until Discord sends it anew, so nothing is pushed back and forth.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._sizes: OrderedDict[tuple[Tenant, str], int] = OrderedDict()

    def hold(self, tenant: Tenant, guild: str, size: int) -> None:
        """``guild`` changed, and takes ``size`` bytes now. Any guild may be left out by that, also
        this one: if it is larger than the whole room.
        """
        if size > self.limit:
            self.free(tenant, guild)
            tenant.leave_out(guild)
            return
        key = tenant, guild
        self.used += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self._sizes.move_to_end(key)
        if self.used > self.limit:
            self._make_room()

    def resize(self, tenant: Tenant, guild: str, size: int) -> None:
        """``guild`` takes another room, without having changed."""
        if (before := self._sizes.get((tenant, guild))) is not None:
            self._sizes[tenant, guild] = size
            self.used += size - before
            self._make_room()

    def free(self, tenant: Tenant, guild: str) -> None:
        """``guild`` takes no room any more."""
        self.used -= self._sizes.pop((tenant, guild), 0)

    def _make_room(self) -> None:
        while self.used > self.limit:
            (tenant, guild), size = self._sizes.popitem(last=False)
            self.used -= size
            tenant.leave_out(guild)
