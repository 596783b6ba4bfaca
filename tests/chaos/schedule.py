# SPDX-License-Identifier: Apache-2.0
"""Who is killed when, from a seed. Pure.

systemd gives a unit up that is started five times within a minute, and so does the embedded
supervisor: no cluster is killed more often than that, since crash loops are not what is measured.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST: Final = 4
WITHIN: Final = 64.0
"""A cluster is killed at most so often within so many seconds."""
# Of the kills, how many hit a cluster a second time while it starts or resumes; and how long after
# the first: it is started again after a second, and resumes about a second later.
_AGAIN: Final = 0.25
_SOON: Final = (1.0, 2.5)


class Strike(NamedTuple):
    """``at``: seconds since the campaign began."""

    at: float
    cluster: int


def strikes(
    rng: random.Random, clusters: Sequence[int], *, count: int, pause: float, most: int = MOST
) -> list[Strike]:
    """So many kills in order of time, on average ``pause`` seconds apart; later where every
    cluster had its share. ``most``: of one cluster within WITHIN seconds.
    """
    found: list[Strike] = []
    now = 0.0
    while len(found) < count:
        now += rng.uniform(0.0, 2 * pause)
        free = [cluster for cluster in clusters if _may(found, cluster, now, most)]
        if not free:
            continue
        cluster = rng.choice(free)
        found.append(Strike(now, cluster))
        soon = now + rng.uniform(*_SOON)
        if rng.random() < _AGAIN and len(found) < count and _may(found, cluster, soon, most):
            found.append(Strike(soon, cluster))
    return sorted(found)


def _may(found: Sequence[Strike], cluster: int, at: float, most: int) -> bool:
    return sum(s.cluster == cluster and abs(at - s.at) < WITHIN for s in found) < most
