# SPDX-License-Identifier: Apache-2.0
"""hikari inside a cluster: its bot gets our events, and sends through our shards.

Events go in by ``event_manager.consume_raw_event``, which takes them of any shard that is one to
hikari: ours implement its ``GatewayShard``. What it does over HTTP stays its own.
"""

import asyncio
import logging
import os
from collections.abc import Collection, Sequence
from typing import Any, Final

import hikari
import hikari.api
import msgspec

from discluster.cluster.handlers.adapter import IMAGE_SIZE, Adapter, Raw
from discluster.errors import ConfigurationError, DiscordError, UnavailableError
from discluster.gateway.commands import (
    Activity,
    RequestChannelInfo,
    RequestGuildMembers,
    UpdatePresence,
    UpdateVoiceState,
)
from discluster.secret import read_token

log = logging.getLogger(__name__)

KNOWN: Final = ("2.3.", "2.4.", "2.5.", "2.6.", "2.7.")
"""Beginnings of the versions of hikari that are alike in what is used of them. The tests run 2.7.0;
they were run with 2.3.5, 2.4.1, 2.5.0 and 2.6.0, too.
"""

_HINT: Final = f"Discluster knows hikari {', '.join(f'{v}*' for v in KNOWN)}"


def bot_token() -> str:
    """The cluster's bot token, with which a hikari bot is made.

    Raises:
        CredentialError: there is none, as where no cluster runs the module.
    """
    return read_token(os.environ).reveal()


class _Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What hikari's shards remember of what was set before, in hikari's own types."""

    status: Any
    activity: Any
    idle_since: Any
    afk: bool

    def changed(self, **given: Any) -> "_Presence":
        new = {name: value for name, value in given.items() if value is not hikari.UNDEFINED}
        return msgspec.structs.replace(self, **new)

    @property
    def command(self) -> UpdatePresence:
        since = None if self.idle_since is None else int(self.idle_since.timestamp() * 1000)
        offline = self.status is hikari.Status.OFFLINE
        return UpdatePresence(
            status="invisible" if offline else str(self.status.value),  # type: ignore[arg-type]  # hikari's are Discord's
            activities=() if self.activity is None else (_activity(self.activity),),
            since=since,
            afk=bool(self.afk),
        )


def _activity(activity: Any) -> Activity:
    name, state = activity.name, activity.state
    if activity.type is hikari.ActivityType.CUSTOM and name and not state:
        # As hikari's own shards do: the name of a custom status is its text.
        name, state = "Custom Status", name
    return Activity(
        name=name,
        type=int(activity.type),
        state=msgspec.UNSET if state is None else state,
        url=msgspec.UNSET if activity.url is None else activity.url,
    )


class HostedShard(hikari.api.GatewayShard):  # type: ignore[misc]  # of a library that need not be there
    """A shard of this cluster, as hikari knows shards. The cluster runs it."""

    def __init__(
        self, adapter: Adapter, bot: Any, shard: int, *, user_id: Any, presence: _Presence
    ) -> None:
        self._bot = bot
        self._adapter = adapter
        self._id = shard
        self._user_id = user_id
        self._presence = presence
        self._over = asyncio.Event()

    @property
    def capabilities(self) -> Any:
        return self._bot.capabilities

    @property
    def heartbeat_latency(self) -> float:
        latency = self._adapter.commands.latency(self._id)
        return float("nan") if latency is None else latency

    @property
    def id(self) -> int:
        return self._id

    @property
    def intents(self) -> Any:
        return self._bot.intents

    @property
    def is_alive(self) -> bool:
        return not self._over.is_set()

    @property
    def is_connected(self) -> bool:
        return self.is_alive

    @property
    def shard_count(self) -> int:
        return self._adapter.commands.shard_count or 1

    def get_user_id(self) -> Any:
        return self._user_id

    async def start(self) -> None:
        raise hikari.ComponentStateConflictError("the cluster runs the shards")

    async def close(self) -> None:
        """For hikari only: what the shard does is the cluster's business."""
        self._over.set()

    async def join(self) -> None:
        await self._over.wait()

    async def update_presence(
        self,
        *,
        idle_since: Any = hikari.UNDEFINED,
        afk: Any = hikari.UNDEFINED,
        activity: Any = hikari.UNDEFINED,
        status: Any = hikari.UNDEFINED,
    ) -> None:
        self._presence = self._presence.changed(
            idle_since=idle_since, afk=afk, activity=activity, status=status
        )
        await self.show()

    async def show(self) -> None:
        """Sends the presence: a session begins without one."""
        await self._adapter.send(self._id, self._presence.command)

    async def update_voice_state(
        self,
        guild: Any,
        channel: Any,
        *,
        self_mute: Any = hikari.UNDEFINED,
        self_deaf: Any = hikari.UNDEFINED,
    ) -> None:
        command = UpdateVoiceState(
            guild_id=int(guild),
            channel_id=None if channel is None else int(channel),
            self_mute=self_mute is True,
            self_deaf=self_deaf is True,
        )
        await self._adapter.send(self._id, command)

    async def request_guild_members(
        self,
        guild: Any,
        *,
        include_presences: Any = hikari.UNDEFINED,
        query: str = "",
        limit: int = 0,
        users: Any = hikari.UNDEFINED,
        nonce: Any = hikari.UNDEFINED,
    ) -> None:
        ids = () if users is hikari.UNDEFINED else tuple(map(int, users))
        if ids and (query or limit):
            raise ValueError("Cannot specify limit/query with users")
        command = RequestGuildMembers(
            guild_id=int(guild),
            query=None if ids else query,
            limit=0 if ids else limit,
            user_ids=ids,
            presences=include_presences is True,
            nonce=None if nonce is hikari.UNDEFINED else nonce,
        )
        await self._adapter.send(self._id, command)

    async def request_channel_info(self, guild: Any, *, fields: Sequence[Any]) -> None:
        asked = tuple(field.value for field in fields)
        await self._adapter.send(self._id, RequestChannelInfo(guild_id=int(guild), fields=asked))


class Hikari(Adapter):
    """The packet handler for a ``hikari.GatewayBot``.

    What the bot's module returns for ``handler`` of cluster.yaml: ``Hikari(bot)``. The keywords are
    those that ``bot.run`` has for the presence.

    Raises:
        ConfigurationError: it is no such bot, or of a hikari that is not known here.
    """

    library = "hikari"

    def __init__(
        self,
        bot: Any,
        *,
        status: Any = hikari.Status.ONLINE,
        activity: Any = None,
        idle_since: Any = None,
        afk: bool = False,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__(image_size=image_size)
        _check(bot)
        self._bot = bot
        self._presence = _Presence(status=status, activity=activity, idle_since=idle_since, afk=afk)

    def intents(self) -> int:
        return int(self._bot.intents)

    async def log_in(self, cluster: int) -> None:
        """Raises:
        DiscordError: Discord does not take the token.
        UnavailableError: its API cannot be reached.
        """
        try:
            # No shards of its own: what else there is of it starts.
            await self._bot.start(
                shard_ids=(),
                shard_count=1,
                check_for_updates=False,
                ignore_session_start_limit=True,
            )
            self._me = (await self._bot.rest.fetch_my_user()).id
        except hikari.UnauthorizedError as error:
            raise DiscordError(
                f"Discord does not take the token of the hikari bot: {error}",
                hint="the bot is made with a token: give it that of the cluster",
            ) from None
        except (hikari.HTTPError, OSError) as error:
            raise UnavailableError(
                f"hikari cannot start: {error}", hint="it is tried again by systemd"
            ) from error

    async def log_out(self) -> None:
        if self._bot.is_alive:
            await self._bot.close()

    @property
    def over(self) -> bool:
        return not self._bot.is_alive

    def enter(self, shard: int) -> None:
        hosted = HostedShard(self, self._bot, shard, user_id=self._me, presence=self._presence)
        self._bot._shards[shard] = hosted
        self._bot.dispatch(self._bot.event_factory.deserialize_connected_event(hosted))

    def leave(self, shard: int) -> None:
        hosted = self._bot.shards[shard]
        for guild in self.guilds_of(shard):
            _forget(self._bot.cache, guild)
        self._bot.dispatch(self._bot.event_factory.deserialize_disconnected_event(hosted))
        del self._bot._shards[shard]

    def take(self, shard: int, kind: str, seq: int, body: Raw) -> None:
        hosted = self._bot.shards[shard]
        try:
            self._bot.event_manager.consume_raw_event(kind, hosted, msgspec.json.decode(body))
        except LookupError:
            log.debug("hikari does not know %s", kind)
        if kind == "READY":
            self.run_beside(hosted.show(), what=f"the presence of shard {shard}")

    def guilds(self) -> Collection[int]:
        return list(map(int, self._bot.cache.get_guilds_view()))


def _forget(cache: Any, guild: int) -> None:
    """As hikari does where the bot leaves a guild, without the event."""
    cache.delete_guild(guild)
    for of_guild in (
        *("voice_states", "invites", "members", "presences", "guild_channels"),
        *("threads", "emojis", "stickers", "roles"),
    ):
        getattr(cache, f"clear_{of_guild}_for_guild")(guild)


def _check(bot: Any) -> None:
    """Raises:
    ConfigurationError: see Hikari.
    """
    if not isinstance(bot, hikari.GatewayBot):
        raise ConfigurationError(
            f"Hikari gets {type(bot).__name__!r}", hint="it is for a hikari.GatewayBot"
        )
    version = hikari.__version__
    if not version.startswith(KNOWN):
        raise ConfigurationError(f"hikari {version} is not known here", hint=_HINT)
    if not isinstance(getattr(bot, "_shards", None), dict):
        raise ConfigurationError(f"hikari {version} lacks what is known of it: _shards", hint=_HINT)
