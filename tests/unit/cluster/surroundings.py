# SPDX-License-Identifier: Apache-2.0
"""What handlers of ours are made of, in tests."""

import random
from collections.abc import Mapping

from discluster.clock import Clock, SystemClock
from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.settings import ClusterSettings
from discluster.secret import Secret


def surroundings(
    settings: ClusterSettings | None = None,
    *,
    cluster: int = 3,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
) -> Surroundings:
    """Of a cluster with ``settings``; None: as shipped. ``environ``: without one, empty."""
    return Surroundings(
        settings=settings or ClusterSettings(),
        cluster=cluster,
        token=Secret("MTAw.simulated.token"),
        environ=environ or {},
        clock=clock or SystemClock(),
        rng=random.Random(1),
    )
