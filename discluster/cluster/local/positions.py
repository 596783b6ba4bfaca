# SPDX-License-Identifier: Apache-2.0
"""How far the clients of one shard have come. Pure."""

from collections import Counter
from collections.abc import Iterable


class Acknowledged:
    """The position up to which each declared client has what it was owed. It outlives the client's
    connections, and goes back only where the client says so itself.
    """

    __slots__ = ("_attached", "_by_client", "lowest")

    def __init__(self, clients: Iterable[str]) -> None:
        self._by_client = dict.fromkeys(clients, 0)
        self._attached: Counter[str] = Counter()
        self.lowest = 0
        """Of all clients, attached or not."""

    def __getitem__(self, client: str) -> int:
        return self._by_client[client]

    def items(self) -> Iterable[tuple[str, int]]:
        """Of each client."""
        return self._by_client.items()

    def start(self, position: int) -> None:
        """Nobody is owed anything up to ``position``."""
        self._by_client = dict.fromkeys(self._by_client, position)
        self.lowest = position

    def advance(self, client: str, position: int) -> None:
        """``client`` has everything up to ``position``; an older word changes nothing."""
        before = self._by_client[client]
        if position <= before:
            return
        self._by_client[client] = position
        if before == self.lowest:
            self.lowest = min(self._by_client.values())

    def go_back(self, client: str, position: int) -> None:
        """``client`` has everything up to ``position`` and, by its own word, no more."""
        self._by_client[client] = position
        self.lowest = min(self._by_client.values())

    def attach(self, client: str) -> None:
        """A connection of ``client`` takes events from now on."""
        self._by_client[client]  # an unknown one is a KeyError
        self._attached[client] += 1

    def detach(self, client: str) -> None:
        """One connection of ``client`` less."""
        self._attached[client] -= 1
        if self._attached[client] <= 0:
            del self._attached[client]

    @property
    def lowest_attached(self) -> int | None:
        """Of the clients that take events now; None without any."""
        return min((self._by_client[client] for client in self._attached), default=None)
