# SPDX-License-Identifier: Apache-2.0
"""The packet handlers that come with Discluster, and what they are made of.

Those of operators are made without arguments. Ours have settings, in ``cluster.yaml``, and take the
clock and chance from outside. Each module is imported only if its handler is chosen.
"""

import importlib
import random
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.cluster.handlers import AnyPacketHandler
from discluster.cluster.settings import ClusterSettings
from discluster.secret import Secret


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is there when a handler of ours is made. ``cluster``: this cluster's number.
    ``environ``: tells where systemd's credentials are (:func:`discluster.secret.read_credential`).
    """

    settings: ClusterSettings
    cluster: int
    token: Secret
    environ: Mapping[str, str]
    clock: Clock
    rng: random.Random


Make = Callable[[Surroundings], AnyPacketHandler]

BUILT_IN: Final[Mapping[str, str]] = {
    "count": "discluster.cluster.handlers.count",
    "gateway": "discluster.cluster.handlers.gateway",
    "nats": "discluster.cluster.handlers.nats.handler",
    "redis": "discluster.cluster.handlers.redis.handler",
}
"""By the name in ``handler`` of cluster.yaml: the module whose ``make`` makes it."""


def make_built_in(name: str, surroundings: Surroundings) -> AnyPacketHandler:
    """The handler of ours that is called ``name``.

    Raises:
        ConfigurationError: its settings do not do, or something that it needs is not installed.
    """
    make: Make = importlib.import_module(BUILT_IN[name]).make
    return make(surroundings)
