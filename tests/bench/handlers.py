# SPDX-License-Identifier: Apache-2.0
"""The packet handlers of the measured cluster: what discluster.cluster.handlers.count does, and a
word when all events are there.
"""

import msgspec

from discluster.cluster.handlers.count import CountingHandler
from discluster.gateway.events import Event
from tests.bench.orders import EVENT, Teller, read_orders


class Counting(CountingHandler):
    """Counts events by type, as the default handler does."""

    def __init__(self) -> None:
        super().__init__()
        self._teller = Teller(read_orders().marks)

    def handle(self, event: Event) -> None:
        self.counts[event.type] += 1
        if event.type == EVENT:
            self._teller.count()


class Parsing(Counting):
    """Counts them, and parses the body of each into Python objects."""

    def handle(self, event: Event) -> None:
        body = msgspec.json.decode(event.body)
        self.counts[event.type] += 1
        if event.type == EVENT and body:
            self._teller.count()
