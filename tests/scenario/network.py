# SPDX-License-Identifier: Apache-2.0
"""The network between the places of a fleet, as a scenario breaks it."""

from typing import Final, Protocol

MASTER: Final = "master"
DISCORD: Final = "discord"


class Network(Protocol):
    """Places are the hosts by name, MASTER's machine and Discord. What is cut tells nobody: packets
    get lost, no connection is reset.
    """

    async def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Nothing comes through between two places; ``one_way``: nothing that ``one`` sends."""
        ...

    async def mend(self, one: str, other: str) -> None:
        """Undoes :meth:`cut`."""
        ...

    async def unplug(self, place: str) -> None:
        """Pulls the cable of a place."""
        ...

    async def plug(self, place: str) -> None: ...

    async def lose(self, part: float) -> None:
        """That part of all packets of every host gets lost, either way; 0 mends it."""
        ...
