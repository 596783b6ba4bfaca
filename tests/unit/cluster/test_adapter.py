# SPDX-License-Identifier: Apache-2.0
"""What the adapters for libraries share, with a library that notes what it gets."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import pytest

from discluster.cluster.handlers.adapter import Adapter, Raw
from discluster.errors import ConfigurationError, NotSentError
from discluster.gateway.commands import Command, RequestGuildMembers
from discluster.gateway.events import LATER, Event
from discluster.gateway.intents import intent_bits
from discluster.gateway.outbox import DEADLINE
from tests.unit.cluster.quiet import QuietCommands
from tests.waiting import wait_for

SHARD = 1
COUNT = 2
GUILDS = [(n << 22) for n in (1, 3, 5)]


class Commands(QuietCommands):
    """What an adapter asks of its cluster."""

    shard_count = COUNT
    intents = intent_bits(["GUILDS", "GUILD_MESSAGES"])

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.listened: list[int] | None = None
        self.too_early: list[int] = []
        self.sent: list[Command] = []
        self.renewed: list[int] = []
        self.write = asyncio.Event()
        self.refuses = False

    @property
    def sequences(self) -> list[int]:
        """Of what is acknowledged."""
        return [seq for _, seq in self.acknowledged]

    def taken(self, event: Event) -> None:
        super().taken(event)
        if self.listened is not None and event.seq not in self.listened:
            self.too_early.append(event.seq)

    async def send(self, shard: int, command: Command, *, timeout: float = DEADLINE) -> None:
        self.sent.append(command)
        await self.write.wait()
        if self.refuses:
            raise NotSentError(f"shard {shard} was stopped")

    def renew(self, shard: int, why: str) -> None:
        self.renewed.append(shard)


class Noting(Adapter):
    """A library that knows guilds, and whose listeners are tasks that note a message at once."""

    library = "a library"

    def __init__(self, *, intents: int = 0) -> None:
        super().__init__()
        self._intents = intents
        self.closed = False
        self.got: list[str] = []
        self.listened: list[int] = []
        self.known: list[int] = []
        self.listeners: list[asyncio.Task[None]] = []

    def intents(self) -> int:
        return self._intents

    async def log_in(self, cluster: int) -> None:
        self.got.append("log in")

    async def log_out(self) -> None:
        self.got.append("log out")

    @property
    def over(self) -> bool:
        return self.closed

    def enter(self, shard: int) -> None:
        self.got.append(f"enter {shard}")

    def leave(self, shard: int) -> None:
        self.got.append(f"leave {shard}")

    def take(self, shard: int, kind: str, seq: int, body: Raw) -> None:
        parsed = json.loads(bytes(body))
        if kind == "POISON":
            raise ValueError("the library cannot bear it")
        self.got.append(kind)
        if kind == "GUILD_CREATE":
            self.known.append(int(parsed["id"]))
        elif kind == "GUILD_DELETE":
            self.known.remove(int(parsed["id"]))
        self.listeners.append(asyncio.create_task(self._listen(seq)))

    def guilds(self) -> Collection[int]:
        return self.known

    async def _listen(self, seq: int) -> None:
        self.listened.append(seq)


def event(seq: int, kind: str = "MESSAGE_CREATE", body: object = None, session: str = "s") -> Event:
    raw = msgspec.Raw(msgspec.json.encode(body or {}))
    return Event(shard=SHARD, seq=seq, type=kind, body=raw, session_id=session)


def beginning(*guilds: int, session: str = "s") -> list[Event]:
    """What a new session begins with."""
    ready = {
        "session_id": session,
        "user": {"id": "7", "username": "bot"},
        "guilds": [{"id": str(guild), "unavailable": True} for guild in guilds],
    }
    created = [{"id": str(guild), "name": "a guild"} for guild in guilds]
    return [
        event(1, "READY", ready, session),
        *(event(n, "GUILD_CREATE", body, session) for n, body in enumerate(created, 2)),
    ]


async def hand_over(adapter: Adapter, *events: Event) -> None:
    """As a shard does: the next event waits."""
    for one in events:
        result = adapter.handle(one)
        if inspect.isawaitable(result):
            result = await result
        assert result is LATER


@pytest.fixture
async def commands(tmp_path: Path) -> Commands:
    (tmp_path / "3").mkdir()
    return Commands(tmp_path / "3")


@pytest.fixture
async def adapter(commands: Commands) -> AsyncIterator[Noting]:
    made = Noting()
    await made.start(3, commands)
    yield made
    await made.stop()


async def restarted(adapter: Noting, commands: Commands) -> Noting:
    """Another process, after an orderly end of this one."""
    await adapter.flush(SHARD)
    await adapter.stop()
    made = Noting()
    await made.start(3, commands)
    return made


async def test_event_is_acknowledged_after_the_first_step_of_its_listeners(
    adapter: Noting, commands: Commands
) -> None:
    commands.listened = adapter.listened
    await hand_over(adapter, *beginning(*GUILDS), event(5), event(6))
    await wait_for(lambda: len(commands.acknowledged) == 6, 5)
    assert commands.sequences == [1, 2, 3, 4, 5, 6]
    assert commands.too_early == []


async def test_library_begins_with_the_image_after_a_resume_in_a_new_process(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS), event(5))
    again = await restarted(adapter, commands)
    await hand_over(again, event(6), event(7, "RESUMED"))
    assert again.got == [
        *("log in", f"enter {SHARD}", "READY", *["GUILD_CREATE"] * 3, "MESSAGE_CREATE", "RESUMED")
    ]
    assert sorted(again.known) == GUILDS
    assert commands.renewed == []
    assert again.problem(SHARD) is None
    await again.stop()


async def test_library_does_not_begin_anew_when_the_same_process_resumes(adapter: Noting) -> None:
    await hand_over(adapter, *beginning(*GUILDS), event(5, "RESUMED"), event(6))
    assert adapter.got.count("READY") == 1


async def test_shard_without_an_image_is_renewed_and_loses_no_event(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, event(90), event(91))
    assert adapter.got == ["log in", f"enter {SHARD}", "MESSAGE_CREATE", "MESSAGE_CREATE"]
    assert commands.renewed == [SHARD]
    assert "does not know its guilds" in str(adapter.problem(SHARD))
    await hand_over(adapter, *beginning(*GUILDS, session="another"))
    assert adapter.problem(SHARD) is None
    assert sorted(adapter.known) == GUILDS


async def test_guild_that_a_new_session_does_not_list_is_gone(adapter: Noting) -> None:
    other = 2 << 22
    adapter.known.append(other)  # of shard 0
    await hand_over(adapter, *beginning(*GUILDS))
    await hand_over(adapter, beginning(GUILDS[0], session="another")[0])
    assert sorted(adapter.known) == sorted([GUILDS[0], other])


async def test_event_that_the_library_cannot_bear_is_the_only_one_that_fails(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    with pytest.raises(ValueError, match="cannot bear"):
        adapter.handle(event(5, "POISON"))
    await hand_over(adapter, event(6))
    await wait_for(lambda: 6 in commands.sequences, 5)
    assert 5 not in commands.sequences


async def test_answer_waits_until_who_asked_can_expect_it(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    asked = RequestGuildMembers(guild_id=GUILDS[0], query="", nonce="n")
    order: list[str] = []

    async def ask() -> None:
        await adapter.send(SHARD, asked)
        order.append("asked")

    asking = asyncio.create_task(ask())
    await wait_for(lambda: commands.sent == [asked], 5)
    chunk = event(5, "GUILD_MEMBERS_CHUNK", {"guild_id": str(GUILDS[0]), "nonce": "n"})
    answering = asyncio.create_task(hand_over(adapter, chunk))
    answering.add_done_callback(lambda _: order.append("answered"))
    commands.write.set()
    await asyncio.gather(asking, answering)
    await wait_for(lambda: len(order) == 2, 5)
    assert order == ["asked", "answered"]
    assert adapter.got[-1] == "GUILD_MEMBERS_CHUNK"


async def test_request_that_was_not_sent_holds_back_no_answer(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    commands.refuses = True
    commands.write.set()
    with pytest.raises(NotSentError):
        await adapter.send(SHARD, RequestGuildMembers(guild_id=GUILDS[0], query="", nonce="n"))
    await hand_over(adapter, event(5, "GUILD_MEMBERS_CHUNK", {"nonce": "n"}))
    assert adapter.got[-1] == "GUILD_MEMBERS_CHUNK"


async def test_shard_that_leaves_takes_its_guilds_along_and_may_come_back(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    await adapter.flush(SHARD)
    assert adapter.got[-1] == f"leave {SHARD}"
    assert commands.sequences == [1, 2, 3, 4]
    adapter.known.clear()
    await hand_over(adapter, event(5))
    assert sorted(adapter.known) == GUILDS


async def test_bot_that_closed_itself_takes_nothing_and_that_is_told(
    adapter: Noting, commands: Commands
) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    adapter.closed = True
    with pytest.raises(RuntimeError, match="closed itself"):
        adapter.handle(event(5))
    assert "restart the cluster" in str(adapter.problem(SHARD))
    await wait_for(lambda: 4 in commands.sequences, 5)
    assert 5 not in commands.sequences


async def test_bot_with_intents_that_the_cluster_lacks_is_refused_by_name(
    commands: Commands,
) -> None:
    greedy = Noting(intents=intent_bits(["GUILDS", "GUILD_MEMBERS"]) | 1 << 30)
    with pytest.raises(ConfigurationError, match=r"for: GUILD_MEMBERS, bit 30$"):
        await greedy.start(3, commands)


async def test_summary_tells_how_many_guilds_are_known(adapter: Noting) -> None:
    await hand_over(adapter, *beginning(*GUILDS))
    assert adapter.summary() == "a library: 3 guilds"
