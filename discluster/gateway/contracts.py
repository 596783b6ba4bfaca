# SPDX-License-Identifier: Apache-2.0
"""What a shard needs from its cluster."""

from collections.abc import Coroutine
from typing import Any, Protocol

from discluster.gateway.ending import Ending
from discluster.plan import Session


class Sessions(Protocol):
    """Where the session of one shard is kept."""

    def load(self) -> Session | None:
        """The session to RESUME, or None if there is none."""
        ...

    def save(self, session: Session) -> None:
        """A new session, from READY; it has replaced whatever was there when this returns."""
        ...

    def advance(self, seq: int) -> None:
        """The handler took the event ``seq`` of the saved session. Called for every event."""
        ...

    def clear(self) -> None:
        """The session is gone; it must never be resumed."""
        ...


class Gate(Protocol):
    """Whether a shard may dial and authenticate, by what Discord said to others with the same
    token (Discord: Opcodes and Status Codes, Gateway Close Event Codes: 4003, 4004, 4010 to 4014),
    and by the lease under which it runs.

    What Discord said to others is not the business of connected shards; the lease is.
    """

    def may_run(self) -> bool:
        """Whether what was read may be handed over. Asked right before, for each run of events:
        the process may have stood still since, until the shard was somebody else's.
        """
        ...

    def obstacle(self, shard: int) -> str | None:
        """What is in the way, in words for an operator; None: nothing."""
        ...

    def changed(self) -> Coroutine[Any, Any, object]:
        """Done when :meth:`obstacle` may answer otherwise than just now."""
        ...

    def accepted(self, shard: int) -> None:
        """READY or RESUMED arrived: Discord takes the token."""
        ...

    def ended(self, shard: int, ending: Ending) -> None:
        """A connection of ``shard``, or its dial, is over. Not called for one that is stopped."""
        ...


class Permits(Protocol):
    """Who may IDENTIFY when (Discord: Gateway, Rate Limiting and Session Start Limit)."""

    async def acquire(self, shard: int) -> None:
        """Returns when ``shard`` may identify. Whoever gets one calls ``used`` or ``returned``.

        If it is cancelled, the implementation itself gives back what it may have been granted.
        """
        ...

    def valid(self, shard: int) -> bool:
        """Whether the permit that ``acquire`` got may still be used. To be asked right before the
        IDENTIFY is written: the process may have stood still since.
        """
        ...

    def used(self, shard: int) -> None:
        """The IDENTIFY was written to the socket just now."""
        ...

    def returned(self, shard: int) -> None:
        """The permit was not used; nothing was written."""
        ...
