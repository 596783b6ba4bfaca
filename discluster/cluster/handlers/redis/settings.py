# SPDX-License-Identifier: Apache-2.0
"""The group ``redis`` of cluster.yaml."""

from typing import Annotated

import msgspec

from discluster.cluster.handlers.publishing.settings import (
    Buffer,
    ConnectLimit,
    EventTypes,
    InFlight,
    Patience,
    TlsSettings,
)
from discluster.settings import Setting


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    server: Annotated[
        str,
        Setting(
            "redis://HOST:PORT, or rediss:// with TLS; or the path of a UNIX socket, as"
            " /run/redis/redis-server.sock",
            pattern=r"/.+|rediss?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[1-9][0-9]{0,4})?/?",
            pattern_says="redis://HOST:PORT, rediss://HOST:PORT or a path from the root, without"
            " a password",
        ),
    ] = "redis://127.0.0.1:6379"
    database: Annotated[int, Setting("Which of its databases", minimum=0, maximum=9_999)] = 0
    stream: Annotated[
        str,
        Setting(
            "Events are appended to the streams STREAM:TYPE",
            pattern=r"[A-Za-z0-9_.:{}-]{1,100}",
            pattern_says="letters, digits and any of _ . : { } -",
        ),
    ] = "discord"
    events: EventTypes = ()
    length: Annotated[
        int,
        Setting(
            "Of each stream about so many events are kept, the newest, whether they were read or"
            " not; 0: all, until something else takes them away",
            unit="events",
            minimum=0,
        ),
    ] = 100_000
    in_flight: InFlight = 4_000
    buffer: Buffer = 64
    acknowledge_limit: Patience = 10.0
    connect_limit: ConnectLimit = 5.0
    tls: Annotated[TlsSettings, Setting("Files for TLS")] = TlsSettings()
