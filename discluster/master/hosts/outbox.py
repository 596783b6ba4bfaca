# SPDX-License-Identifier: Apache-2.0
"""How large a message of a host may be, and how much may wait for one that does not read."""

from typing import Final

from discluster.messages import Message, PlanPush
from discluster.plan import MAXIMUM_SHARDS
from discluster.sidelane import OutgoingQueue, is_call

# Beside shards a report has a few lines for each cluster.
_BASE: Final = 4 * 1024 * 1024
# A view with a problem in words and a session that was released are not half as long.
_PER_SHARD: Final = 1024
_SMALL: Final = 256


def longest_message(shards: int | None) -> int:
    """Bytes. Nobody can tell of more ``shards`` than the fleet has; None: MASTER does not know."""
    return _BASE + _PER_SHARD * (MAXIMUM_SHARDS if shards is None else shards)


class Outbox(OutgoingQueue):
    """Messages on their way to a host. ``size``: bytes, about, without calls."""

    size = 0

    def _put(self, item: Message) -> None:
        self.size += _weight(item)
        super()._put(item)

    def _get(self) -> Message:
        item = super()._get()
        self.size -= _weight(item)
        return item


def _weight(message: Message) -> int:
    if is_call(message):
        return 0  # they have room of their own
    return len(message.text) if isinstance(message, PlanPush) else _SMALL
