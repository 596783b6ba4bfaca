# SPDX-License-Identifier: Apache-2.0
"""What Discord would say of one shard if it identified now: READY, then a GUILD_CREATE for each
guild (Discord: Gateway Events, Ready, Guild Create).
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

import msgspec

from discluster.cluster.images.guild import GuildImage
from discluster.cluster.images.patching import PATCHES
from discluster.cluster.images.ready import Ready
from discluster.cluster.images.room import Room
from discluster.cluster.images.shapes import MaybeUnavailable, OfGuild
from discluster.decoding import DECODE_ERRORS
from discluster.gateway.events import Event

LEFT_OUT: Final = "LEFT_OUT"
"""On disk, beside Discord's types of events: a guild for which there was no room."""

_type: Final = attrgetter("type")
_of_guild: Final = msgspec.json.Decoder(OfGuild)
_guild: Final = msgspec.json.Decoder(MaybeUnavailable)


class Dispatch(NamedTuple):
    """An event for a client: its type, and its body as raw JSON."""

    type: str
    body: bytes


class _Absent(enum.Enum):
    """Why there is no image of a guild that the bot is in."""

    AWAITED = "READY lists it, nothing came yet"
    UNAVAILABLE = "Discord has an outage"
    LEFT_OUT = "no room"


class Keeper(Protocol):
    """Puts an image on disk."""

    def begin(self, session_id: str) -> None:
        """A new session; what was kept of another is void."""
        ...

    def note(self, seq: int, name: str, body: bytes) -> None:
        """An event that changed the image; to be kept with the next ``commit``."""
        ...

    def commit(self, seq: int, image: "ShardImage") -> None:
        """The image is as of ``seq`` now. Never raises."""
        ...

    def forget(self) -> None:
        """There is no image any more."""
        ...


class ShardImage:
    """Takes the events of one shard. Nothing that is in them makes it raise.

    ``session_id``: Discord's, of the session that the image is of; None: there is none.
    ``seq``: up to which it is true.
    """

    def __init__(self, *, room: Room, keeper: Keeper) -> None:
        self.session_id: str | None = None
        self.seq = 0
        self._room = room
        self._keeper = keeper
        self._ready: Ready | None = None
        self._guilds: dict[str, GuildImage | _Absent] = {}

    # --- what comes in ---------------------------------------------------------------------------

    def take(self, events: Sequence[Event]) -> None:
        """Every event of the shard, in order; several at once cost less. Those that were taken
        before, and come again, change nothing.
        """
        if not _MATTERS.isdisjoint(map(_type, events)):
            self._take(event for event in events if event.type in _MATTERS)
        if self._ready is None or not events:
            return
        last = events[-1]
        if last.session_id != self.session_id:
            self.forget()  # of its READY nothing was seen
            return
        if last.seq > self.seq:
            self.seq = last.seq
        self._keeper.commit(self.seq, self)

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.type == "READY":
                self._keeper.begin(event.session_id)
                self.session_id, self.seq = event.session_id, 0
            elif self._ready is None or event.seq <= self.seq:
                continue
            self.apply(event.seq, event.type, bytes(event.body))

    def apply(self, seq: int, name: str, body: bytes) -> None:
        """What changes the image: an event, or what :meth:`events` told of another image."""
        if (change := _CHANGES.get(name)) is None:
            return
        try:
            guild = change(self, name, body)
        except DECODE_ERRORS:
            return
        if guild is None:
            return
        self._keeper.note(seq, name, body)
        image = self._guilds.get(guild)
        if isinstance(image, GuildImage):
            self._room.hold(self, guild, image.size)
        else:
            self._room.free(self, guild)

    def forget(self) -> None:
        """The image is void, until READY begins a new one."""
        self._clear()
        self.session_id, self.seq = None, 0
        self._keeper.forget()

    def leave_out(self, guild: str) -> None:
        """There is no room for ``guild``."""
        self._guilds[guild] = _Absent.LEFT_OUT
        self._keeper.note(self.seq, LEFT_OUT, _only_id(guild))

    def restate(self) -> None:
        """Notes once more which guilds were left out: while an image was read from disk, there may
        have been no room for some that its file has.
        """
        for guild, image in self._guilds.items():
            if image is _Absent.LEFT_OUT:
                self._keeper.note(self.seq, LEFT_OUT, _only_id(guild))

    # --- what goes out ---------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """READY is known, so that an IDENTIFY can be answered."""
        return self._ready is not None

    @property
    def left_out(self) -> int:
        """Guilds for which there was no room."""
        return sum(image is _Absent.LEFT_OUT for image in self._guilds.values())

    @property
    def size(self) -> int:
        """Memory that its guilds take, bytes."""
        return sum(i.size for i in self._guilds.values() if isinstance(i, GuildImage))

    def ready(
        self, *, session_id: str, resume_gateway_url: str, shard: int, shard_count: int
    ) -> bytes:
        """The body of READY, with all guilds that the bot is in now. ``session_id`` and what
        follows are those of whoever serves it. Only if ``complete``.
        """
        assert self._ready is not None, "complete"
        return self._ready.body(
            self._guilds,
            session_id=session_id,
            resume_gateway_url=resume_gateway_url,
            shard=(shard, shard_count),
        )

    def guilds(self) -> Iterator[Dispatch]:
        """What follows READY: GUILD_CREATE for each guild there is an image of, GUILD_DELETE for
        one in an outage; nothing for those that are awaited, or were left out.

        Each is as of the instant when it is asked for; events may be taken in between.
        """
        for guild in list(self._guilds):
            image = self._guilds.get(guild)
            if image is _Absent.UNAVAILABLE:
                yield Dispatch("GUILD_DELETE", _unavailable(guild))
            elif isinstance(image, GuildImage):
                body = image.body(me=self._me)
                self._room.resize(self, guild, image.size)
                yield Dispatch("GUILD_CREATE", body)

    def events(self) -> Iterator[tuple[str, bytes]]:
        """What makes an equal image when it is applied to an empty one; for the disk."""
        if self._ready is None:
            return
        yield "READY", self._ready.body(self._guilds)
        for guild, image in self._guilds.items():
            if isinstance(image, GuildImage):
                yield from image.events()
            elif image is _Absent.UNAVAILABLE:
                yield "GUILD_DELETE", _unavailable(guild)
            elif image is _Absent.LEFT_OUT:
                yield LEFT_OUT, _only_id(guild)

    # --- changes: each tells which guild changed, _ITSELF for none, None if nothing did -----------

    def _ready_came(self, _name: str, body: bytes) -> str:
        self._clear()
        self._ready = Ready(body)
        self._guilds = dict.fromkeys(self._ready.guilds, _Absent.AWAITED)
        return _ITSELF

    def _user_updated(self, _name: str, body: bytes) -> str | None:
        if self._ready is None:
            return None
        self._ready.user_updated(body)
        return _ITSELF

    def _guild_created(self, _name: str, body: bytes) -> str:
        """It came back, or the bot joined it; it may still be unavailable."""
        guild = _guild.decode(body)
        self._guilds[guild.key] = _Absent.UNAVAILABLE if guild.unavailable else GuildImage(body)
        return guild.key

    def _guild_deleted(self, _name: str, body: bytes) -> str:
        """Without ``unavailable`` the bot has left."""
        guild = _guild.decode(body)
        if guild.unavailable:
            self._guilds[guild.key] = _Absent.UNAVAILABLE
        else:
            self._guilds.pop(guild.key, None)
        return guild.key

    def _left_out(self, _name: str, body: bytes) -> str:
        guild = _guild.decode(body).key
        self._guilds[guild] = _Absent.LEFT_OUT
        return guild

    def _guild_updated(self, name: str, body: bytes) -> str | None:
        return self._patch(_guild.decode(body).key, name, body)

    def _in_guild(self, name: str, body: bytes) -> str | None:
        return self._patch(str(_of_guild.decode(body).guild_id), name, body)

    def _patch(self, guild: str, name: str, body: bytes) -> str | None:
        image = self._guilds.get(guild)
        if not isinstance(image, GuildImage):
            return None
        image.patch(name, body, me=self._me)
        return guild

    @property
    def _me(self) -> str:
        return self._ready.me if self._ready is not None else ""

    def _clear(self) -> None:
        for guild in self._guilds:
            self._room.free(self, guild)
        self._guilds = {}
        self._ready = None


def _unavailable(guild: str) -> bytes:
    return msgspec.json.encode({"unavailable": True, "id": guild})


def _only_id(guild: str) -> bytes:
    return msgspec.json.encode({"id": guild})


_ITSELF: Final = ""  # no guild has this id

_Change = Callable[[ShardImage, str, bytes], str | None]
_CHANGES: Final[dict[str, _Change]] = {
    **dict.fromkeys(PATCHES, ShardImage._in_guild),
    "READY": ShardImage._ready_came,
    "USER_UPDATE": ShardImage._user_updated,
    "GUILD_CREATE": ShardImage._guild_created,
    "GUILD_UPDATE": ShardImage._guild_updated,
    "GUILD_DELETE": ShardImage._guild_deleted,
    LEFT_OUT: ShardImage._left_out,
}
_MATTERS: Final = frozenset(_CHANGES.keys() - {LEFT_OUT})
