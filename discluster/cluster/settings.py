# SPDX-License-Identifier: Apache-2.0
"""The settings of the clusters: /etc/discluster/cluster.yaml."""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from discluster import places
from discluster.cluster.handlers.nats.settings import NatsSettings
from discluster.cluster.handlers.redis.settings import RedisSettings
from discluster.cluster.local.settings import LocalGatewaySettings
from discluster.documents import Rule
from discluster.gateway.failing import Reaction
from discluster.gateway.identity import Compression
from discluster.gateway.intents import Intent
from discluster.settings import LogLevel, RuntimeDirectory, Setting, StateDirectory

TITLE: Final = "Settings of the clusters, the processes that run the shards."


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    handler: Annotated[
        str,
        Setting(
            "The packet handler that takes the events: the name of one that comes with Discluster"
            " (count, gateway, nats, redis), or module:attribute, or the name that an installed"
            " package gives it (an entry point of discluster.handlers); the last two are called"
            " without arguments and give the handler",
            pattern=r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[A-Za-z_][\w.-]*",
            pattern_says="of the form module:attribute, or the name of an entry point",
        ),
    ] = "count"
    virtual_environment: Annotated[
        Annotated[str, Rule(pattern=r"/.*", pattern_says="a path from the root, as /srv/bot/venv")]
        | None,
        Setting(
            "Where else to import the handler from: a virtual environment made with the same"
            " version of Python, which the cluster's user can read. What Discluster itself imports"
            " still comes from where Discluster is installed",
            example="virtual_environment: /srv/bot/venv",
        ),
    ] = None
    on_handler_error: Annotated[
        Reaction,
        Setting(
            "What follows when the handler raises at an event, or at a batch of them, always told"
            " in the log. skip: it counts as taken, so that one event which the handler cannot"
            " bear does not stop all others of its shard. retry: it is tried again, after 0.5, 1,"
            " 2 … 30 seconds, while the shard waits; after handler_tries it is skipped. fatal: the"
            " cluster ends with exit status 75 and takes nothing more; started again, it gets the"
            " event again",
        ),
    ] = "skip"
    handler_tries: Annotated[
        int,
        Setting(
            "With on_handler_error retry: calls for an event, the first one included; 6 take 15.5"
            " seconds",
            unit="tries",
            minimum=2,
            maximum=10_000,
        ),
    ] = 6
    intents: Annotated[
        tuple[Intent, ...],
        Setting(
            "What Discord shall send. GUILD_MEMBERS, GUILD_PRESENCES and MESSAGE_CONTENT must be"
            " enabled for the bot in Discord's developer portal",
        ),
    ] = ("GUILDS", "GUILD_MESSAGES", "DIRECT_MESSAGES")
    compression: Annotated[
        Compression, Setting("Compression of what Discord sends; zstd-stream costs least")
    ] = "zstd-stream"
    large_threshold: Annotated[
        int,
        Setting(
            "Guilds with more members send no offline members at first",
            unit="members",
            minimum=50,
            maximum=250,
        ),
    ] = 50
    stall_limit: Annotated[
        float,
        Setting(
            "A cluster with a shard that shows no sign of life for this long stops feeding its"
            " watchdog, so that systemd restarts it",
            unit="seconds",
            minimum=1,
        ),
    ] = 180.0
    unacknowledged: Annotated[
        int,
        Setting(
            "Events of one shard that a handler may have without having acknowledged the first of"
            " them; after a crash they are replayed. With more, the shard is not read until some"
            " are acknowledged",
            unit="events",
            minimum=1,
        ),
    ] = 10_000
    flush_limit: Annotated[
        float,
        Setting(
            "A handler that acknowledges later gets this long to do so when a shard leaves or the"
            " cluster stops; what is left is replayed",
            unit="seconds",
            minimum=0.1,
            maximum=15,
        ),
    ] = 5.0
    local_gateway: Annotated[
        LocalGatewaySettings,
        Setting("Of the handler gateway, which bots of this machine connect to"),
    ] = LocalGatewaySettings()
    nats: Annotated[
        NatsSettings,
        Setting("The handler nats. Its password is the systemd credential discluster.nats"),
    ] = NatsSettings()
    redis: Annotated[
        RedisSettings,
        Setting("The handler redis. Its password is the systemd credential discluster.redis"),
    ] = RedisSettings()
    state_directory: StateDirectory = "/var/lib/discluster"
    runtime_directory: RuntimeDirectory = "/run/discluster"
    log_level: LogLevel = "info"

    @property
    def control_socket(self) -> Path:
        return places.clusters_socket(Path(self.runtime_directory))

    @property
    def lease_file(self) -> Path:
        return places.lease_file(Path(self.runtime_directory))

    def assignment_file(self, cluster: int) -> Path:
        return places.assignment_file(Path(self.state_directory), cluster)

    def session_file(self, cluster: int) -> Path:
        return places.session_file(Path(self.state_directory), cluster)
