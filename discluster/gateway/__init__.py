# SPDX-License-Identifier: Apache-2.0
"""One shard against Discord's gateway, version 10.

A :class:`Shard` keeps one session alive: it dials, identifies or resumes, heartbeats, and hands
events to a handler. It knows nothing of other shards; when it may identify, and where its session
is kept, its cluster decides.
"""

from discluster.gateway.contracts import Permits, Sessions
from discluster.gateway.events import LATER, Event, Handler, Later
from discluster.gateway.identity import Compression, Identity
from discluster.gateway.shard import Shard
from discluster.gateway.sockets import Closed, Socket, Transport
from discluster.gateway.transport import AiohttpTransport

__all__ = [
    "LATER",
    "AiohttpTransport",
    "Closed",
    "Compression",
    "Event",
    "Handler",
    "Identity",
    "Later",
    "Permits",
    "Sessions",
    "Shard",
    "Socket",
    "Transport",
]
