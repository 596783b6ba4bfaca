# SPDX-License-Identifier: Apache-2.0
"""Whether shards make progress: the condition for feeding the watchdog. Pure."""

from collections.abc import Mapping


class ProgressWatch:
    """Remembers when each shard's counter last grew."""

    def __init__(self, *, limit: float) -> None:
        """``limit``: seconds without growth after which a shard counts as stalled."""
        self._limit = limit
        self._seen: dict[int, tuple[int, float]] = {}

    def stalled(self, counters: Mapping[int, int], now: float) -> list[int]:
        """The shards whose counter has not grown for longer than the limit."""
        for shard, counter in counters.items():
            known = self._seen.get(shard)
            if known is None or known[0] != counter:
                self._seen[shard] = (counter, now)
        for shard in self._seen.keys() - counters.keys():
            del self._seen[shard]
        return sorted(
            shard for shard, (_, since) in self._seen.items() if now - since > self._limit
        )
