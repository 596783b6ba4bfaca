# SPDX-License-Identifier: Apache-2.0
"""The newest of numbered records, by pages, and waiting for the next: events and audited calls."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

PAGE: Final = 1000
# Seconds; a client that went without a word must not be waited for longer.
LONGEST_WAIT: Final = 30.0


class Numbered(Protocol):
    """What stands on a shelf; numbers grow."""

    @property
    def number(self) -> int: ...

    @property
    def at(self) -> float: ...


class Asked(Protocol):
    """What every query has; see :class:`discluster.console.EventQuery`."""

    @property
    def after(self) -> int: ...

    @property
    def last(self) -> int | None: ...

    @property
    def since(self) -> float: ...


N = TypeVar("N", bound=Numbered)


class Shelf(Generic[N]):
    """At most ``keep`` records."""

    def __init__(self, stored: Iterable[N] = (), *, keep: int) -> None:
        self._records: deque[N] = deque(stored, maxlen=keep)
        self._news = asyncio.Event()
        self._closed = False

    @property
    def newest(self) -> int:
        """Number of the newest record, 0 before the first."""
        return self._records[-1].number if self._records else 0

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, record: N) -> None:
        """Adds the newest."""
        self._records.append(record)
        self._wake()

    def page(self, query: Asked, fits: Callable[[N], bool]) -> tuple[tuple[N, ...], int]:
        """What was asked for and ``fits``, at most :data:`PAGE` records, and the number after which
        to ask next.
        """
        # A number from the future: MASTER's disk was lost, and its records began anew.
        after = query.after if query.after <= self.newest else 0
        found = [
            record
            for record in self._records
            if record.number > after and record.at >= query.since and fits(record)
        ]
        if query.last is not None:
            found = found[max(0, len(found) - query.last) :]
        page = tuple(found[:PAGE])
        return page, page[-1].number if len(page) < len(found) else self.newest

    async def wait_beyond(self, number: int) -> None:
        """Returns when there are records after ``number``, or when no more will come."""
        while self.newest == number and not self._closed:
            await self._news.wait()

    def close(self) -> None:
        """Ends waiting."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
