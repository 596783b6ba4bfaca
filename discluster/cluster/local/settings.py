# SPDX-License-Identifier: Apache-2.0
"""The settings of the handler ``gateway``: the group ``local_gateway`` of cluster.yaml."""

from typing import Annotated, Literal

import msgspec

from discluster.documents import Rule
from discluster.settings import Setting

Unknown = Literal["identify", "wait"]
ClientName = Annotated[
    str,
    Rule(
        pattern=r"(?!api$|gateway$|v\d+$)[a-z][a-z0-9-]{0,31}",
        pattern_says="1 to 32 of a-z, 0-9 and -, a letter first, and not api, gateway or v10",
    ),
]


class LocalGatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    address: Annotated[
        Annotated[str, Rule(pattern=r"127(\.\d{1,3}){3}|::1", pattern_says="a loopback address")]
        | None,
        Setting(
            "Loopback address that bots connect to; null: on the UNIX socket only. Cluster N"
            " listens on port first_port + N"
        ),
    ] = "127.0.0.1"
    first_port: Annotated[
        int, Setting("Port of cluster 0", unit="TCP port", minimum=1, maximum=65_535)
    ] = 7500
    unix_socket: Annotated[
        bool,
        Setting(
            "Whether cluster N also listens on gateways/N.sock in the runtime directory, for root"
            " and the members of the group discluster-bot. No other user of the machine can listen"
            " there in its place while it is down, as on a port"
        ),
    ] = False
    clients: Annotated[
        tuple[ClientName, ...],
        Setting(
            "Who is fed, each with all events, by the name in the path of the URL; the first is"
            " also served without one. For each the events are kept that it has not acknowledged:"
            " who is named here and never connects keeps the log full",
        ),
    ] = ("bot",)
    keep_size: Annotated[
        int,
        Setting(
            "Events of all shards of a cluster together that are kept for bots that are away or"
            " slow. Beyond it the oldest are lost to whoever is not there",
            unit="MiB",
            minimum=1,
            maximum=65_536,
        ),
    ] = 64
    keep_age: Annotated[
        float,
        Setting("How long they are kept at most", unit="seconds", minimum=1, maximum=86_400),
    ] = 600.0
    image_size: Annotated[
        int,
        Setting(
            "What is known of the guilds of all shards of a cluster together, in memory, for a bot"
            " that identifies. Guilds beyond it are unavailable to it until something of theirs"
            " changes",
            unit="MiB",
            minimum=1,
            maximum=65_536,
        ),
    ] = 512
    heartbeat_interval: Annotated[
        float,
        Setting(
            "How often bots are to send a heartbeat, by which they also acknowledge; one that"
            " misses three is disconnected",
            unit="seconds",
            minimum=1,
            maximum=60,
        ),
    ] = 10.0
    when_unknown: Annotated[
        Unknown,
        Setting(
            "A bot identifies on a shard whose guilds the cluster does not know, as its session"
            " began in another process that left nothing. identify: the shard gets a new session,"
            " one of those that Discord allows in a day. wait: the bot waits until there is one"
        ),
    ] = "identify"
