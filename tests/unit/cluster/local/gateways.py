# SPDX-License-Identifier: Apache-2.0
"""A local gateway without sockets: the test is Discord, the bots and the clock."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from discluster.cluster.handlers import Commands
from discluster.cluster.images import Images
from discluster.cluster.local.bot import Bot
from discluster.cluster.local.encoding import Plain
from discluster.cluster.local.front import Upgrade
from discluster.cluster.local.gateway import LocalGateway, Terms
from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.settings import Unknown
from discluster.gateway import frames
from discluster.gateway.commands import Command
from discluster.gateway.events import Event, Later
from discluster.gateway.frames import FrameReader
from discluster.secret import Secret
from tests.clock import ManualClock
from tests.unit.cluster.local.events import SESSION, event

TOKEN = "token"
MIB = 1 << 20


class FakeCommands:
    """Notes what the handler asks for."""

    def __init__(self) -> None:
        self.shard_count: int | None = 2
        self.shards: tuple[int, ...] = (0, 1)
        self.intents = 513
        self.taken_up_to: list[tuple[int, int]] = []
        self.sent: list[tuple[int, Command]] = []
        self.renewed: list[int] = []

    def taken(self, event: Event) -> None:
        self.taken_up_to.append((event.shard, event.seq))

    async def send(self, shard: int, command: Command) -> None:
        self.sent.append((shard, command))

    def renew(self, shard: int, why: str) -> None:
        self.renewed.append(shard)


class FakeTransport:
    """Takes everything, or nothing more once it is told so."""

    def __init__(self) -> None:
        self.closed = self.aborted = False
        self.written = b""

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Client:
    """The other end of one connection."""

    def __init__(self, rig: "Rig", name: str) -> None:
        self.transport = FakeTransport()
        self.known = False
        upgrade = Upgrade(client=name, url="ws://here/", encoder=Plain(), head=b"")
        self.bot: Bot = rig.gateway.opened(
            cast(asyncio.Transport, self.transport), upgrade, self._recognised
        )
        self._rig = rig
        self._reader = FrameReader(limit=1 << 30)
        self._heard: list[dict[str, Any]] = []

    def _recognised(self) -> None:
        self.known = True

    def say(self, op: int, body: object) -> None:
        self.bot.received(frames.encode(frames.TEXT, msgspec.json.encode({"op": op, "d": body})))

    def identify(self, shard: int = 0, **more: Any) -> None:
        said = {"token": TOKEN, "intents": 513, "shard": [shard, 2], "properties": {}}
        self.say(2, {**said, **more})

    def resume(self, session_id: str, seq: int) -> None:
        self.say(6, {"token": TOKEN, "session_id": session_id, "seq": seq})

    def beat(self, seq: int | None = None) -> None:
        self.say(1, self.seq if seq is None else seq)

    def vanish(self) -> None:
        self._rig.gateway.closed(self.bot)

    @property
    def heard(self) -> list[dict[str, Any]]:
        """All payloads that came."""
        data, self.transport.written = self.transport.written, b""
        self._heard += [msgspec.json.decode(message) for message in self._reader.feed(data)]
        return self._heard

    @property
    def ops(self) -> list[int]:
        return [payload["op"] for payload in self.heard]

    @property
    def dispatches(self) -> list[tuple[str, int]]:
        return [(p["t"], p["s"]) for p in self.heard if p["op"] == 0]

    @property
    def seq(self) -> int:
        return self.dispatches[-1][1]

    @property
    def session_id(self) -> str:
        found = [p["d"]["session_id"] for p in self.heard if p.get("t") == "READY"]
        return str(found[-1])

    @property
    def closed_with(self) -> tuple[int | None, str] | None:
        _ = self.heard
        codes = [c for c in self._reader.controls if c.opcode == frames.CLOSE]
        return frames.close_code(codes[0].data) if codes else None


class Rig:
    """One cluster with shards 0 and 1."""

    def __init__(
        self,
        directory: Path,
        *,
        clients: Sequence[str] = ("bot",),
        size: int = 64 * MIB,
        when_unknown: Unknown = "identify",
        unacknowledged: int = 5000,
    ) -> None:
        self.clock = ManualClock()
        self.commands = FakeCommands()
        self.keeping = Keeping(
            size=size,
            age=600.0,
            clients=clients,
            unacknowledged=unacknowledged,
            clock=self.clock,
        )
        self.images = Images(directory, siblings=None, limit=MIB, boot_id="boot", clock=self.clock)
        self.gateway = LocalGateway(
            terms=Terms(
                clients=tuple(clients),
                tokens=(Secret(TOKEN),),
                interval=10.0,
                when_unknown=when_unknown,
            ),
            commands=cast(Commands, self.commands),
            keeping=self.keeping,
            images=self.images,
            clock=self.clock,
        )

    def client(self, name: str = "bot") -> Client:
        return Client(self, name)

    def take(self, *events: Event) -> Later | asyncio.Task[Later]:
        """From Discord."""
        return self.gateway.take(events)

    def begin(self, session: str = SESSION, *, shard: int = 0, guilds: int = 1) -> None:
        """READY, and a guild after the other."""
        ids = [str(number << 22) for number in range(1, guilds + 1)]
        body = {
            "v": 10,
            "user": {"id": "7"},
            "session_id": session,
            "resume_gateway_url": "wss://discord.example",
            "guilds": [{"id": guild, "unavailable": True} for guild in ids],
            "shard": [shard, 2],
            "application": {"id": "7", "flags": 0},
        }
        events = [self._made(1, "READY", body, session, shard)]
        for number, guild in enumerate(ids, 2):
            guild_body = {"id": guild, "name": "g", "channels": [], "members": []}
            events.append(self._made(number, "GUILD_CREATE", guild_body, session, shard))
        self.take(*events)

    def _made(self, seq: int, kind: str, body: object, session: str, shard: int) -> Event:
        return Event(shard, seq, kind, msgspec.Raw(msgspec.json.encode(body)), session)

    def messages(self, first: int, last: int, *, session: str = SESSION, size: int = 0) -> Any:
        """Events of shard 0; what take() returns."""
        return self.take(
            *(event(seq, session=session, size=size) for seq in range(first, last + 1))
        )

    def resumed(self, seq: int) -> None:
        self.take(event(seq, "RESUMED"))
