# SPDX-License-Identifier: Apache-2.0
"""The group ``nats`` of cluster.yaml."""

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
from discluster.documents import Rule
from discluster.settings import Setting

Server = Annotated[
    str,
    Rule(
        pattern=r"(?:nats|tls)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[1-9][0-9]{0,4})?/?",
        pattern_says="of the form nats://HOST:PORT or tls://HOST:PORT, without a password",
    ),
]


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    create: Annotated[
        Annotated[
            str,
            Rule(pattern=r"[A-Za-z0-9_-]{1,32}", pattern_says="letters, digits, _ and -"),
        ]
        | None,
        Setting(
            "Makes a stream of this name, on disk, for all that is published here, if there is"
            " none of that name; one that is there stays as it is",
            example="nats: {stream: {create: DISCORD}}",
        ),
    ] = None
    max_age: Annotated[int, Setting("Older events leave the stream", unit="seconds", minimum=1)] = (
        86_400
    )
    max_size: Annotated[
        int, Setting("Beyond it the oldest events leave the stream", unit="MiB", minimum=1)
    ] = 1_024
    duplicates: Annotated[
        int,
        Setting(
            "How long the stream knows the ids of what it has, and takes nothing twice",
            unit="seconds",
            minimum=1,
        ),
    ] = 120
    replicas: Annotated[int, Setting("How many servers keep it", minimum=1, maximum=5)] = 1


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    servers: Annotated[
        tuple[Server, ...],
        Setting("One after the other is tried; tls:// refuses a connection without TLS"),
    ] = ("nats://127.0.0.1:4222",)
    subject: Annotated[
        str,
        Setting(
            "Events are published as SUBJECT.TYPE.SHARD",
            pattern=r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){0,7}",
            pattern_says="words of letters, digits, _ and -, with dots between them",
        ),
    ] = "discord"
    events: EventTypes = ()
    stream: Annotated[
        StreamSettings, Setting("The stream to be made; without 'create' none of it counts")
    ] = StreamSettings()
    in_flight: InFlight = 4_000
    buffer: Buffer = 64
    acknowledge_limit: Patience = 10.0
    connect_limit: ConnectLimit = 5.0
    tls: Annotated[TlsSettings, Setting("Files for TLS")] = TlsSettings()
