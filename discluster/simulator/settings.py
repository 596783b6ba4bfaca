# SPDX-License-Identifier: Apache-2.0
"""The settings of the simulated Discord.

Times are simulated seconds: real ones times `time_factor`. Rates of events are per real second,
since they are load on this machine.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from discluster.errors import ConfigurationError
from discluster.settings import Setting
from discluster.simulator.guilds import MAX_GUILDS

PrivilegedIntent = Literal["GUILD_MEMBERS", "GUILD_PRESENCES", "MESSAGE_CONTENT"]

MAX_EDGES = 26
DEFAULT_TOKEN = "simulated-bot-token"


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of `discluster-simulator`."""

    # Where it listens
    host: Annotated[str, Setting(help="Address to listen on")] = "127.0.0.1"
    http_port: Annotated[
        int,
        Setting(help="Port of Discord's HTTP API; 0 takes a free one", minimum=0, maximum=65535),
    ] = 0
    gateway_ports: Annotated[
        tuple[Annotated[int, Setting(help="port", minimum=0, maximum=65535)], ...],
        Setting(
            help="Ports of the gateway; 0 takes a free one. The first is where sessions begin; "
            "resume URLs point to the others in turn, or to the first if it is the only one"
        ),
    ] = (0,)
    edge_addresses: Annotated[
        tuple[str, ...],
        Setting(
            help="host:port of each resume host, where it listens by itself and can refuse; empty: "
            "they are paths on gateway_ports, as many as `edges` says"
        ),
    ] = ()
    control: Annotated[
        str, Setting(help="Where the control API listens: unix:/path or host:port")
    ] = "127.0.0.1:0"
    advertise: Annotated[
        str | None, Setting(help="Host name in the URLs given to clients; null means `host`")
    ] = None
    tls_certificate: Annotated[
        str | None,
        Setting(help="PEM file with the certificate chain; makes the URLs https and wss"),
    ] = None
    tls_key: Annotated[str | None, Setting(help="PEM file with the certificate's key")] = None

    # The bot
    tokens: Annotated[
        tuple[str, ...], Setting(help="Bot tokens that are valid; each is a bot of its own")
    ] = (DEFAULT_TOKEN,)
    guilds: Annotated[
        int, Setting(help="Guilds that the bot is in", minimum=0, maximum=MAX_GUILDS)
    ] = 64
    members: Annotated[
        int, Setting(help="Members of each guild that a request for members finds", minimum=1)
    ] = 1
    shards: Annotated[int, Setting(help="Recommended number of shards", minimum=1)] = 4
    assigned_multiple: Annotated[
        int,
        Setting(
            help="Large-bot sharding: shard counts must be a multiple of this; 0 for other bots",
            minimum=0,
        ),
    ] = 0
    max_guilds_per_shard: Annotated[
        int, Setting(help="More guilds on one shard are refused with 4011", minimum=1)
    ] = 2500
    privileged_intents: Annotated[
        tuple[PrivilegedIntent, ...], Setting(help="Privileged intents that the bot was granted")
    ] = ("GUILD_MEMBERS", "GUILD_PRESENCES", "MESSAGE_CONTENT")
    unavailable_percent: Annotated[
        int,
        Setting(
            help="Share of guilds that are in an outage at start", unit="%", minimum=0, maximum=100
        ),
    ] = 0

    # Starting sessions
    max_concurrency: Annotated[int, Setting(help="Identify lanes", minimum=1)] = 1
    identify_interval: Annotated[
        float, Setting(help="Least time between IDENTIFYs of one lane", unit="s", minimum=0)
    ] = 5.0
    identify_tolerance: Annotated[
        float, Setting(help="How much earlier an IDENTIFY may still arrive", unit="s", minimum=0)
    ] = 0.0
    rejected_identify_restarts_interval: Annotated[
        bool, Setting(help="An IDENTIFY that came too early starts the lane's interval anew")
    ] = True
    rejected_identify_spends_budget: Annotated[
        bool, Setting(help="An IDENTIFY that came too early still costs a session start")
    ] = True
    rejected_identify_delay: Annotated[
        float,
        Setting(help="INVALID_SESSION for it is sent after 0 to this long", unit="s", minimum=0),
    ] = 5.0
    session_start_total: Annotated[int, Setting(help="Session starts per day", minimum=0)] = 1000
    session_start_remaining: Annotated[
        int | None, Setting(help="Session starts left at the beginning; null means all", minimum=0)
    ] = None
    reset_after: Annotated[
        float, Setting(help="Length of the day after which they are refilled", unit="s", minimum=0)
    ] = 86_400.0
    ready_delay: Annotated[
        float, Setting(help="Time between IDENTIFY and READY", unit="s", minimum=0)
    ] = 0.0

    # Sessions
    heartbeat_interval: Annotated[
        float, Setting(help="Heartbeat interval that HELLO asks for", unit="s", minimum=0.001)
    ] = 41.25
    heartbeat_tolerance: Annotated[
        float, Setting(help="How late a heartbeat may be", unit="s", minimum=0)
    ] = 10.0
    missed_heartbeat_close: Annotated[
        Literal[1000, 4009, 0],
        Setting(help="Close code when heartbeats stay out; 0 resets the TCP connection"),
    ] = 1000
    session_ttl_minimum: Annotated[
        float, Setting(help="Least time a session can be resumed", unit="s", minimum=0)
    ] = 90.0
    session_ttl_maximum: Annotated[
        float, Setting(help="Most time a session can be resumed", unit="s", minimum=0)
    ] = 300.0
    replay_events: Annotated[
        int, Setting(help="Events that a session keeps for replay", minimum=1)
    ] = 20_000
    edges: Annotated[
        int, Setting(help="Resume hosts (paths /edge-a, /edge-b, …)", minimum=1, maximum=MAX_EDGES)
    ] = 4

    # Events
    events_per_second: Annotated[
        float, Setting(help="Events per shard and real second", unit="1/s", minimum=0)
    ] = 5.0
    events_without_session: Annotated[
        bool,
        Setting(
            help="Guilds have events also while no session covers them, as they do at Discord; "
            "GET /sent lists these with sequence 0. Not before a shard's first session"
        ),
    ] = False
    guild_create_rate: Annotated[
        float,
        Setting(
            help="GUILD_CREATEs per shard and real second; 0 sends all at once",
            unit="1/s",
            minimum=0,
        ),
    ] = 0.0
    zlib_level: Annotated[
        int,
        Setting(help="Level of zlib-stream; 0 mixes 6 and 9 as Discord does", minimum=0, maximum=9),
    ] = 0
    zstd_level: Annotated[int, Setting(help="Level of zstd-stream", minimum=1, maximum=19)] = 3
    sent_log: Annotated[
        int, Setting(help="Events per shard that GET /sent remembers", minimum=1)
    ] = 100_000
    ledger_records: Annotated[
        int, Setting(help="Records that the ledger keeps; the oldest are forgotten", minimum=1000)
    ] = 1_000_000

    # How strict, where Discord's behaviour is not documented
    gateway_bot_limit: Annotated[
        int,
        Setting(help="GET /gateway/bot per 5 s and token before 429; 0 for no limit", minimum=0),
    ] = 2
    invalid_request_limit: Annotated[
        int,
        Setting(help="HTTP 401, 403 and 429 in 10 minutes before everybody is banned", minimum=1),
    ] = 10_000
    require_user_agent: Annotated[
        bool, Setting(help="Answer 403 without 'User-Agent: DiscordBot (…'; otherwise record it")
    ] = False
    trailing_slash: Annotated[
        bool, Setting(help="The gateway URL ends with a slash, as in Discord's example")
    ] = False
    revocation_close: Annotated[
        int,
        Setting(
            help="Close code of all sessions when the token is revoked", minimum=1000, maximum=4999
        ),
    ] = 4003
    takeover_close: Annotated[
        int,
        Setting(
            help="Close code of a socket whose session is resumed elsewhere",
            minimum=1000,
            maximum=4999,
        ),
    ] = 4000
    stale_resume: Annotated[
        Literal["op9", "4007"], Setting(help="Answer to a RESUME older than the replay buffer")
    ] = "op9"
    revoked_resume: Annotated[
        Literal["4004", "op9"], Setting(help="Answer to a RESUME with a revoked token")
    ] = "4004"
    reject_bot_prefix_in_resume: Annotated[
        bool, Setting(help="A token with 'Bot ' in RESUME is answered with INVALID_SESSION")
    ] = True
    close_on_other_resume_parameters: Annotated[
        bool, Setting(help="Close (4000) a RESUME whose query differs from the session's first one")
    ] = False
    presence_limit_closes: Annotated[
        bool, Setting(help="More than 5 presence updates in 20 s close the connection (4008)")
    ] = False
    short_acks: Annotated[
        bool, Setting(help='Heartbeats are acknowledged with {"op":11}, without t, s and d')
    ] = False
    payload_compression: Annotated[
        bool,
        Setting(
            help="IDENTIFY's `compress` makes each payload a zlib stream of its own, if there is "
            "no transport compression; otherwise it is ignored"
        ),
    ] = True

    # The simulation
    seed: Annotated[int, Setting(help="Seed of all that is random")] = 1
    time_factor: Annotated[
        float,
        Setting(help="Scales all timers: 0.1 makes everything ten times as fast", minimum=0.0001),
    ] = 1.0


def check(settings: SimulatorSettings) -> None:
    """What single settings cannot tell. Raises ConfigurationError.

    Not in __post_init__: a command line sets one at a time.
    """
    for wrong, message in _contradictions(settings):
        if wrong:
            raise ConfigurationError(message, hint="correct the setting and start again")


def _contradictions(settings: SimulatorSettings) -> Iterator[tuple[bool, str]]:
    least, most = settings.session_ttl_minimum, settings.session_ttl_maximum
    yield most < least, f"session_ttl_maximum ({most:g}) is below session_ttl_minimum ({least:g})"
    for address in settings.edge_addresses:
        host, _, port = address.rpartition(":")
        wrong = not host or not port.isdecimal() or int(port) > 65535
        yield wrong, f"edge_addresses: {address!r} is not host:port"
    many = len(settings.edge_addresses)
    yield many > MAX_EDGES, f"edge_addresses names {many} resume hosts; {MAX_EDGES} is the most"
    yield not settings.gateway_ports, "gateway_ports must name at least one port"
    tokens = settings.tokens
    yield not tokens or not all(tokens), "tokens must name at least one token, and none empty"
    yield len(set(tokens)) < len(tokens), "tokens names a token twice"
    half = (settings.tls_certificate is None) != (settings.tls_key is None)
    yield half, "tls_certificate and tls_key go together"
    multiple = settings.assigned_multiple
    wrong = bool(multiple) and settings.shards % multiple != 0
    yield wrong, f"shards ({settings.shards}) is not a multiple of assigned_multiple ({multiple})"
