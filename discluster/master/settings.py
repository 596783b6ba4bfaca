# SPDX-License-Identifier: Apache-2.0
"""The settings of MASTER: /etc/discluster/master.yaml."""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from discluster import places
from discluster.clock import DAY
from discluster.documents import Rule
from discluster.master.identify.lanes import taken_at_most
from discluster.plan import MAXIMUM_SHARDS, MAXIMUM_SHARDS_PER_CLUSTER, GatewayUrl, HostName
from discluster.settings import RuntimeDirectory, Setting, StateDirectory

TITLE: Final = "Settings of MASTER, the service that balances the shards over the machines."

_HttpsUrl = Annotated[
    str, Rule(pattern=r"https://[^\s/?#]+/?", pattern_says="of the form https://HOST:PORT")
]
_CertificateName = Annotated[
    str,
    Rule(
        pattern=r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*",
        pattern_says="a DNS name or an IP address",
    ),
]


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is special about one host."""

    weight: Annotated[
        float,
        Setting(
            "Share of the shards that this host gets, relative to the others",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 1.0
    shards_per_cluster: Annotated[
        Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS_PER_CLUSTER)] | None,
        Setting("Shards in one cluster process of this host; null takes the fleet's number"),
    ] = None
    max_shards: Annotated[
        Annotated[int, Rule(minimum=0, maximum=MAXIMUM_SHARDS)] | None,
        Setting("Most shards that this host ever gets, whatever its weight; null sets no limit"),
    ] = None
    standby: Annotated[
        bool,
        Setting("This host gets shards only when other hosts are lost or full"),
    ] = False


class MasterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    listen: Annotated[
        str,
        Setting(
            "Address and port for the CONTROLs; [::]:7443 listens on IPv6 as well",
            pattern=r"[^\s]+:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
            r"|655[0-2][0-9]|6553[0-5])",
            pattern_says="of the form ADDRESS:PORT",
        ),
    ] = "0.0.0.0:7443"
    names: Annotated[
        tuple[_CertificateName, ...],
        Setting(
            "DNS names and IP addresses under which the CONTROLs reach MASTER; they go into its"
            " certificate, besides the machine's host name and the loopback addresses",
            example="names: [master.example.net, 192.0.2.10]",
        ),
    ] = ()
    public_url: Annotated[
        _HttpsUrl | None,
        Setting(
            "Address that 'disclusterctl token create' prints; null makes it from the first of"
            " 'names', or the host name, and the port of 'listen'"
        ),
    ] = None
    admin_group: Annotated[
        str,
        Setting(
            "Group whose members may do all that disclusterctl can, on MASTER's machine; used where"
            " there is such a group and MASTER's user is in it, else it is the group of MASTER's"
            " user",
            pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]{0,31}",
            pattern_says="a group's name",
        ),
    ] = "discluster-admin"
    login_life: Annotated[
        float,
        Setting(
            "How long a login of an operator on another machine lasts; one that is used is renewed"
            " by itself at two thirds of it",
            unit="days",
            minimum=0.01,
            maximum=365,
        ),
    ] = 7.0
    discord_api: Annotated[
        str,
        Setting(
            "Discord's API, asked for the recommended shard count and nothing else",
            pattern=r"https?://[^\s?#]+",
            pattern_says="an http:// or https:// address",
        ),
    ] = "https://discord.com/api/v10"
    gateway_url: Annotated[
        GatewayUrl | None,
        Setting("Discord's gateway; null takes the address that Discord tells", reloads=True),
    ] = None
    shard_count: Annotated[
        Literal["auto"] | Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS)],
        Setting(
            "Shards of the bot; auto takes Discord's recommendation when the fleet first starts."
            " The count of a running fleet never changes by itself",
            reloads=True,
        ),
    ] = "auto"
    max_concurrency: Annotated[
        Literal["auto"] | Annotated[int, Rule(minimum=1)],
        Setting("Identify lanes; auto takes what Discord tells", reloads=True),
    ] = "auto"
    shards_per_cluster: Annotated[
        int,
        Setting(
            "Shards in one cluster process, where a host sets no other number",
            minimum=1,
            maximum=MAXIMUM_SHARDS_PER_CLUSTER,
            reloads=True,
        ),
    ] = 16
    balance: Annotated[
        Literal["shards", "guilds", "load"],
        Setting(
            "What the hosts carry in proportion to their weights: the number of shards; the guilds"
            " on them; or the load, three parts CPU time and one part memory, as CONTROL measures"
            " it",
            reloads=True,
        ),
    ] = "shards"
    rebalance_gain: Annotated[
        float,
        Setting(
            "Shards move for guilds or load only if that takes at least this part of its share off"
            " the host that is furthest above its share",
            unit="of the share",
            minimum=0.01,
            maximum=10,
            reloads=True,
        ),
    ] = 0.1
    rebalance_pause: Annotated[
        float,
        Setting(
            "Shortest time between two such moves, and from MASTER's start to the first. Guilds and"
            " load are averaged over about a sixth of it",
            unit="seconds",
            minimum=1,
            reloads=True,
        ),
    ] = 3600.0
    hosts: Annotated[
        dict[HostName, HostSettings],
        Setting(
            "The hosts that MASTER waits for when the fleet first starts, and what is special"
            " about each. A host that joins without being listed gets weight 1",
            example="hosts:\n  alpha: {weight: 2, shards_per_cluster: 8}\n  beta: {weight: 1}",
            reloads=True,
        ),
    ] = {}
    start_wait: Annotated[
        float,
        Setting(
            "How long MASTER waits for hosts, at the fleet's first start and after its own restart,"
            " before it plans with those that are there",
            unit="seconds",
            minimum=0,
        ),
    ] = 45.0
    lease: Annotated[
        float,
        Setting(
            "How long a host may run its shards without a word of MASTER, unless most of the other"
            " hosts do not hear MASTER either. MASTER gives the shards of a silent host to others"
            " after this and 'lease_margin'",
            unit="seconds",
            minimum=1,
        ),
    ] = 30.0
    lease_margin: Annotated[
        float,
        Setting(
            "How much longer than a lease MASTER waits before it gives away the shards of a silent"
            " host: for clocks that do not run alike",
            unit="seconds",
            minimum=0.1,
            maximum=3600,
            reloads=True,
        ),
    ] = 2.0
    ping_interval: Annotated[
        float,
        Setting(
            "Pause between two pings to a host; at most a fifth of 'lease'",
            unit="seconds",
            minimum=0.1,
        ),
    ] = 5.0
    return_wait: Annotated[
        float,
        Setting(
            "How long a host that was lost must be back, and answer steadily, before it gets shards"
            " again",
            unit="seconds",
            minimum=0,
            reloads=True,
        ),
    ] = 60.0
    moves_at_once: Annotated[
        int,
        Setting(
            "Shards that may be on their way from one host to another at a time, of those that run;"
            " hosts that are lost or go down are not held up by it",
            minimum=1,
            maximum=MAXIMUM_SHARDS,
            reloads=True,
        ),
    ] = 64
    unreachable_after: Annotated[
        float,
        Setting(
            "A host none of whose shards has reached Discord for so long, while those of the others"
            " do, gives its shards to them for a while",
            unit="seconds",
            minimum=1,
            reloads=True,
        ),
    ] = 60.0
    # The hundredth beyond Discord's 5 s is not used up by the ways between MASTER and hosts:
    # permits leave ahead of their time, and their use is told by the instant. Timers and busy
    # processes are late, which makes the gap larger; as much again is left to them within the 2 %
    # by which a start may take longer than it must.
    identify_interval: Annotated[
        float,
        Setting(
            "Time between two identifies of one lane, counted from the writing of the first."
            " Discord wants 5 between their arrivals, so the rest is by how much the delay to"
            " Discord may vary; more where it varies more",
            unit="seconds",
            minimum=0.1,
        ),
    ] = 5.05
    identify_reserve: Annotated[
        float,
        Setting(
            "Part of Discord's daily session starts that the fleet does not spend, unless"
            " 'disclusterctl identify resume --reserve' lets it, until the next reset",
            unit="of the total",
            minimum=0,
            maximum=1,
            reloads=True,
        ),
    ] = 0.1
    identify_loop_limit: Annotated[
        int,
        Setting(
            "Identifies of one shard within an hour after which it gets no further permit until"
            " 'disclusterctl identify resume'. A shard that fails for ever reaches the default in"
            " half an hour, by its growing pauses",
            minimum=1,
            reloads=True,
        ),
    ] = 10
    identify_waste: Annotated[
        float,
        Setting(
            "Part of Discord's daily session starts that may go, within 24 hours, to shards that"
            " had identified before; after it nobody gets a permit until 'disclusterctl identify"
            " resume'. A large bot spends a fifth of its starts when all sessions are lost once",
            unit="of the total",
            minimum=0,
            maximum=1,
            reloads=True,
        ),
    ] = 0.5
    certificate_life: Annotated[
        float,
        Setting(
            "How long certificates made from now on are valid, of hosts and of MASTER. Each is"
            " renewed by itself at two thirds of that. A host that was off until its own had"
            " expired must join again with a new token. Minutes are for rehearsals",
            unit="seconds",
            minimum=10,
            maximum=397 * DAY,
            reloads=True,
        ),
    ] = 30 * DAY
    events_kept: Annotated[
        int,
        Setting(
            "Events that 'disclusterctl events' can show; of so many lines, older ones go in"
            " halves, so there are at least half as many",
            minimum=100,
            maximum=100_000,
        ),
    ] = 10_000
    audit_kept: Annotated[
        int,
        Setting(
            "Lines of the audit log, two for each call that changed something; of so many, older"
            " ones go in halves. The journal has them, too",
            minimum=100,
            maximum=1_000_000,
        ),
    ] = 20_000
    history: Annotated[int, Setting("Old plans that are kept on disk", minimum=1, reloads=True)] = (
        100
    )
    state_directory: StateDirectory = "/var/lib/discluster"
    runtime_directory: RuntimeDirectory = "/run/discluster"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Setting("Least severity that is logged", reloads=True),
    ] = "info"

    def __post_init__(self) -> None:
        if self.ping_interval > self.lease / 5:
            raise ValueError(
                f"ping_interval, {self.ping_interval:g} s, must be at most a fifth of lease,"
                f" {self.lease:g} s: make it {self.lease / 5:g} or less, or lease longer"
            )

    @property
    def pace_after(self) -> float:
        """Seconds after which a host without MASTER can be sure that MASTER knows: the lease, the
        pings' rhythm in which it is looked at, and the use of what was granted last.
        """
        return self.lease + self.ping_interval + taken_at_most(self.identify_interval)

    @property
    def own_state(self) -> Path:
        return places.own_state(Path(self.state_directory), "master")

    @property
    def socket(self) -> Path:
        return places.master_socket(Path(self.runtime_directory))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
