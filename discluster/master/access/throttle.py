# SPDX-License-Identifier: Apache-2.0
"""Slows down whoever fails again and again. Bounded in memory, whoever comes from wherever."""

import ipaddress
from collections import OrderedDict
from typing import Final, NamedTuple

FREE: Final = 5
"""Failures that cost nothing: somebody may have mistyped."""
LONGEST: Final = 60.0
FORGOTTEN_AFTER: Final = 600.0
KEPT: Final = 4096


class Failures(NamedTuple):
    """``until``: nobody is heard before. ``last``: of the newest failure. Monotonic seconds."""

    times: int
    until: float
    last: float


class Throttle:
    """By key, such as an address: after :data:`FREE` failures a pause of a second, and twice as
    long after each further one, up to :data:`LONGEST`.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, Failures] = OrderedDict()

    def pause(self, key: str, now: float) -> float:
        """Seconds for which ``key`` is not heard; 0: it is. ``now``: monotonic seconds."""
        known = self._failures.get(key)
        return max(0.0, known.until - now) if known is not None else 0.0

    def failed(self, key: str, now: float) -> int:
        """Counts one more; how many there are."""
        known = self._failures.pop(key, None)
        if known is None or now - known.last > FORGOTTEN_AFTER:
            known = Failures(0, now, now)
        times = known.times + 1
        pause = min(2.0 ** min(times - FREE - 1, 16), LONGEST) if times > FREE else 0.0
        self._failures[key] = Failures(times, now + pause, now)
        # The one that has been quiet for the longest time goes first.
        while len(self._failures) > KEPT:
            self._failures.popitem(last=False)
        return times

    def __len__(self) -> int:
        return len(self._failures)


def source(address: str | None) -> str:
    """What counts as one: an IPv4 address, or the network of 64 bits that one machine of IPv6 has
    to itself.
    """
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
