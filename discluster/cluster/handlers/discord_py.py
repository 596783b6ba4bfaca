# SPDX-License-Identifier: Apache-2.0
"""discord.py inside a cluster: its client gets our events, and sends through our shards.

What it does over HTTP stays its own; it never dials the gateway. Its WebSocket's methods make the
payloads, as ever, and its connection state's parsers take the events. discord.py documents neither
for this purpose; :data:`KNOWN` says with which versions that was tried.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

import discord
import msgspec
from discord.gateway import DiscordWebSocket
from discord.shard import Shard as DiscordShard

from discluster.cluster.handlers.adapter import IMAGE_SIZE, Adapter, Raw
from discluster.errors import ConfigurationError, DiscordError, UnavailableError
from discluster.gateway.asked import command_of
from discluster.gateway.commands import Command, shard_of

log = logging.getLogger(__name__)

KNOWN: Final = ("2.4.", "2.5.", "2.6.", "2.7.")
"""Beginnings of the versions of discord.py that are alike in what is used of them. The tests run
2.7.1; they were run with 2.4.0, 2.5.2 and 2.6.4, too.
"""

_HINT: Final = f"Discluster knows discord.py {', '.join(f'{v}*' for v in KNOWN)}"
_METHODS: Final = ("_add_guild_from_data", "_remove_guild", "clear_chunk_requests")
_SHARDS: Final = "_AutoShardedClient__shards"


class _Payload(msgspec.Struct):
    op: int
    d: msgspec.Raw


class StandIn(DiscordWebSocket):  # type: ignore[misc]  # of a library that need not be there
    """What discord.py takes for a WebSocket: sends through our shards, and receives nothing.

    A client that does not shard has one for all ``shards``; ``shard_id`` is None then.
    """

    def __init__(self, adapter: Adapter, client: Any, shard: int | None) -> None:
        self.shards: set[int] = set() if shard is None else {shard}
        self.shard_id = shard
        self.shard_count = adapter.commands.shard_count
        self.loop = client.loop
        self.session_id = None
        self.sequence = None
        self._client = client
        self._adapter = adapter
        self._closed = False

    @property
    def open(self) -> bool:
        return not self._closed

    @property
    def latency(self) -> float:
        known = [self._adapter.commands.latency(shard) for shard in self.shards]
        seconds = [one for one in known if one is not None]
        return sum(seconds) / len(seconds) if seconds else float("inf")

    def is_ratelimited(self) -> bool:
        """Never: what is too much for now waits in the shard."""
        return False

    async def send(self, data: str, /) -> None:
        """Returns when it was written to Discord.

        Raises:
            CommandError: Discord would not take it.
            NotSentError: it could not be sent in time.
        """
        if self._client._enable_debug_events:
            self._client.dispatch("socket_raw_send", data)
        payload = msgspec.json.decode(data, type=_Payload)
        command = command_of(payload.op, payload.d)
        for shard in self._through(command):
            await self._adapter.send(shard, command)

    async def close(self, code: int = 4000) -> None:
        """For discord.py only: what our shards do is the cluster's business."""
        self._closed = True

    async def poll_event(self) -> None:
        raise RuntimeError("events come from the cluster")

    def _through(self, command: Command) -> list[int]:
        guild = getattr(command, "guild_id", None)
        if guild is None or self.shard_id is not None:
            return sorted(self.shards)
        return [shard_of(guild, self._adapter.commands.shard_count or 1)]


class _Parent(DiscordShard):  # type: ignore[misc]  # likewise
    """What an AutoShardedClient has for each shard; ours are connected by the cluster."""

    def launch(self) -> None:
        raise RuntimeError("the cluster runs the shards")

    async def reconnect(self) -> None:
        raise RuntimeError("the cluster connects the shards: disclusterctl restart")

    async def reidentify(self, exc: Any) -> None:
        await self.reconnect()


class DiscordPy(Adapter):
    """The packet handler for a ``discord.Client``, ``commands.Bot`` or one of their sharded kin.

    What the bot's module returns for ``handler`` of cluster.yaml: ``DiscordPy(bot)``.

    Raises:
        ConfigurationError: it is no client, or of a discord.py that is not known here.
    """

    library = "discord.py"

    def __init__(self, client: Any, *, image_size: int = IMAGE_SIZE) -> None:
        super().__init__(image_size=image_size)
        _check(client)
        self._client = client
        self._state = client._connection
        self._sharded = isinstance(client, discord.AutoShardedClient)
        self._begun = False

    def intents(self) -> int:
        return int(self._client.intents.value)

    async def log_in(self, cluster: int) -> None:
        """Raises:
        DiscordError: Discord does not take the token.
        UnavailableError: its API cannot be reached.
        """
        if not self._sharded:
            self._client.ws = None
        try:
            await self._client.login(self.commands.token.reveal())
        except discord.LoginFailure as error:
            raise DiscordError(
                f"Discord does not take the bot token: {error}", hint="put in the right one"
            ) from None
        except (discord.HTTPException, OSError) as error:
            raise UnavailableError(
                f"discord.py cannot log in: {error}", hint="it is tried again by systemd"
            ) from error
        # What connect() would set, for the events that discord.py's shards would report.
        self._client._reconnect = True

    async def log_out(self) -> None:
        await self._client.close()

    @property
    def over(self) -> bool:
        return bool(self._client.is_closed())

    def enter(self, shard: int) -> None:
        client, commands = self._client, self.commands
        client.shard_count = self._state.shard_count = commands.shard_count
        if self._sharded:
            # on_ready comes when all of these are.
            client.shard_ids = self._state.shard_ids = sorted({*commands.shards, shard})
            parent = _Parent(StandIn(self, client, shard), client, lambda item: None)
            getattr(client, _SHARDS)[shard] = parent
            return
        if client.ws is None:
            client.ws = StandIn(self, client, None)
        client.ws.shards.add(shard)

    def leave(self, shard: int) -> None:
        self._state.clear_chunk_requests(shard)
        for guild in self.guilds_of(shard):
            self._state._remove_guild(self._client.get_guild(guild))
        if self._sharded:
            getattr(self._client, _SHARDS).pop(shard, None)
            self._client.shard_ids = self._state.shard_ids = list(getattr(self._client, _SHARDS))
        else:
            self._client.ws.shards.discard(shard)
        self._client.dispatch("disconnect")
        self._client.dispatch("shard_disconnect", shard)

    def take(self, shard: int, kind: str, seq: int, body: Raw) -> None:
        client = self._client
        if client._enable_debug_events:
            client.dispatch("socket_raw_receive", _payload(kind, seq, body))
        client.dispatch("socket_event_type", kind)
        self._parse(shard, kind, msgspec.json.decode(body))

    def _parse(self, shard: int, kind: str, body: Any) -> None:
        parser = self._state.parsers.get(kind)
        if kind == "READY":
            self._ready(shard, body)
        elif parser is not None:
            if kind == "RESUMED":
                body["__shard_id__"] = shard
            parser(body)

    def guilds(self) -> Collection[int]:
        return [guild.id for guild in self._client.guilds]

    def _ready(self, shard: int, body: Any) -> None:
        if self._sharded or not self._begun:
            self._state.parsers["READY"](body)
        else:
            # parse_ready of a client that does not shard would forget the other shards' guilds.
            for guild in body["guilds"]:
                self._state._add_guild_from_data(guild)
            self._client.dispatch("connect")
        self._begun = True
        presence = {"status": self._state._status, "game": self._state._activity}
        if any(presence.values()):
            # Of the client's constructor; IDENTIFY would have brought it.
            command = command_of(3, msgspec.json.encode(presence))
            self.run_beside(self.send(shard, command), what=f"the presence of shard {shard}")


def _payload(kind: str, seq: int, body: Raw) -> str:
    """The message that the event came in."""
    message = {"t": kind, "s": seq, "op": 0, "d": msgspec.Raw(bytes(body))}
    return msgspec.json.encode(message).decode()


def _check(client: Any) -> None:
    """Raises:
    ConfigurationError: see DiscordPy.
    """
    if not isinstance(client, discord.Client):
        raise ConfigurationError(
            f"DiscordPy gets {type(client).__name__!r}",
            hint="it is for a discord.Client, or what derives from that, such as commands.Bot",
        )
    version = discord.__version__
    if not version.startswith(KNOWN):
        raise ConfigurationError(f"discord.py {version} is not known here", hint=_HINT)
    parsers = getattr(client._connection, "parsers", None)
    missing = {"READY", "GUILD_CREATE", "GUILD_DELETE"} - set(parsers or ())
    missing |= {name for name in _METHODS if not hasattr(client._connection, name)}
    if isinstance(client, discord.AutoShardedClient):
        missing |= set() if isinstance(getattr(client, _SHARDS, None), Mapping) else {"shards"}
    if missing:
        raise ConfigurationError(
            f"discord.py {version} lacks what is known of it: {', '.join(sorted(missing))}",
            hint=_HINT,
        )
