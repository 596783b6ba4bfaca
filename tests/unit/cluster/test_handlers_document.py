# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/handlers.md, run as they stand there."""

import importlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from discluster.cluster.handlers import (
    LATER,
    BatchPacketHandler,
    CallAnswers,
    ClusterAnswer,
    FlushingHandler,
    PacketHandler,
)
from discluster.cluster.handlers.loading import GROUP, call_methods, load_handler, wanted_types
from discluster.cluster.settings import ClusterSettings
from discluster.errors import NotSentError
from discluster.gateway import Event
from discluster.gateway.commands import Command, RequestGuildMembers
from discluster.gateway.outbox import DEADLINE
from discluster.messages import CallFault
from discluster.settings import parse
from tests.unit.cluster.surroundings import surroundings
from tests.waiting import wait_for

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "handlers.md"
NAMES = {
    "hello": "Hello",
    "once": "Once",
    "rows": "Rows",
    "lines": "Lines",
    "members": "Members",
    "census": "Census",
}


class Commands:
    """What the examples do with it."""

    shard_count = 8

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, int]] = []
        self.sent: list[tuple[int, Command]] = []
        self.refuses = False
        self.method_of: Callable[[str], Callable[[Any], Any]] = lambda _: lambda args: args

    def taken(self, event: Event) -> None:
        self.acknowledged.append((event.shard, event.seq))

    async def send(self, shard: int, command: Command, *, timeout: float = DEADLINE) -> None:
        self.sent.append((shard, command))
        if self.refuses:
            raise NotSentError(f"shard {shard} is not on this cluster")

    async def call(
        self,
        name: str,
        args: Any = None,
        *,
        clusters: Collection[int] | None = None,
        timeout: float = 10.0,
    ) -> CallAnswers:
        """Of two clusters one answers."""
        well = ClusterAnswer(cluster=3, host="alpha", value=self.method_of(name)(args))
        away = CallFault(code="away", text="beta is not connected to MASTER")
        return CallAnswers(answers=(well, ClusterAnswer(cluster=4, host="beta", fault=away)))


def event(seq: int, body: object, *, shard: int = 1, type: str = "MESSAGE_CREATE") -> Event:
    raw = msgspec.Raw(msgspec.json.encode(body))
    return Event(shard=shard, seq=seq, type=type, body=raw, session_id="s")


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    blocks = re.findall(
        r"^```python\n# (\w+)\.py\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in blocks] == list(NAMES)
    for name, text in blocks:
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in NAMES:
        sys.modules.pop(name, None)


def make(name: str) -> Any:
    return load_handler(f"{name}:{NAMES[name]}", surroundings())


@pytest.mark.parametrize("name", NAMES)
async def test_example_is_a_handler_with_a_life(examples: Path, name: str) -> None:
    handler = make(name)
    made: object = handler
    assert isinstance(made, PacketHandler | BatchPacketHandler)
    await handler.start(3, Commands())
    if wanted_types(name, handler) is None:
        handler.handle(event(1, {}, type="TYPING_START"))
    assert handler.summary().startswith("0 ")
    await handler.stop()


async def test_hello_hears_what_it_is_for(examples: Path) -> None:
    handler = make("hello")
    handler.handle(event(2, {"channel_id": "7", "content": "hello there"}))
    handler.handle(event(3, {"channel_id": "7", "content": "good bye"}))
    assert handler.summary() == "1 hellos"


async def test_once_counts_a_replayed_message_once(examples: Path) -> None:
    told = ""
    for seqs in ((2, 3, 4), (3, 4, 5)):
        handler = make("once")
        await handler.start(3, Commands())
        for seq in seqs:
            handler.handle(event(seq, {}))
            handler.handle(event(seq, {}, shard=2))
        told = handler.summary()
        await handler.stop()
    assert told == "8 messages"


async def test_rows_writes_a_batch_once_and_as_a_whole(examples: Path) -> None:
    handler = make("rows")
    await handler.start(3, Commands())
    handler.handle_batch([event(2, {"id": "7", "content": "x"}), event(3, {"id": "8"})])
    handler.handle_batch([event(3, {"id": "8"}), event(4, {"id": "9"})])
    with pytest.raises(msgspec.ValidationError):
        handler.handle_batch([event(5, {"id": "10"}), event(6, {})])
    await handler.stop()
    with closing(sqlite3.connect(examples / "messages.sqlite")) as database:
        rows = database.execute("select id, content from messages order by id").fetchall()
    assert rows == [("7", "x"), ("8", ""), ("9", "")]


def test_settings_of_the_document_are_settings() -> None:
    text = re.sub(r"^```.*?^```$", "", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"(?:^    (?:\w+: .*)\n)+", text, re.MULTILINE)
    read = [parse(textwrap.dedent(b), ClusterSettings, file="handlers.md") for b in blocks]
    assert [settings.handler for settings in read[:2]] == ["hello:Hello", "our-bot"]
    assert read[0].virtual_environment == "/srv/bot/venv"
    assert (read[2].on_handler_error, read[2].handler_tries) == ("retry", 6)


def test_entry_point_of_the_document_is_of_our_group() -> None:
    [block] = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    told = tomllib.loads(block)["project"]["entry-points"]
    assert told == {GROUP: {"our-bot": "our_bot.handler:Bot"}}


def test_drop_ins_of_the_document_name_directives_of_the_unit() -> None:
    """Those that the unit has itself, and those that it leaves to systemd's defaults."""
    unit = (DOCUMENT.parents[1] / "units" / "discluster-cluster@.service").read_text()
    known = set(re.findall(r"^(\w+)=", unit, re.MULTILINE)) | {"StateDirectory"}
    told = re.findall(r"^    (\w+)=", DOCUMENT.read_text(), re.MULTILINE)
    assert len(told) >= 7
    assert set(told) <= known


def lines_of(examples: Path) -> list[Any]:
    return list(lines_module().read(examples / "cluster-3.lines"))


def lines_module() -> ModuleType:
    return importlib.import_module("lines")


async def test_lines_acknowledge_what_is_on_disk(examples: Path) -> None:
    commands = Commands()
    handler = make("lines")
    flushed: object = handler
    assert isinstance(flushed, FlushingHandler)
    await handler.start(3, commands)
    for seq in (2, 3):
        for shard in (1, 2):
            assert handler.handle(event(seq, {"n": seq}, shard=shard)) is LATER
    assert commands.acknowledged == []
    await wait_for(lambda: commands.acknowledged, 5)
    assert sorted(commands.acknowledged) == [(1, 3), (2, 3)]
    assert lines_of(examples) == [{"n": 2}, {"n": 2}, {"n": 3}, {"n": 3}]
    await handler.stop()


async def test_lines_are_all_written_and_acknowledged_when_a_shard_is_flushed(
    examples: Path,
) -> None:
    commands = Commands()
    handler = lines_module().Lines(every=3600)
    await handler.start(3, commands)
    handler.handle(event(2, {"text": "two\nlines"}))
    await handler.flush(1)
    await handler.flush(1)
    assert commands.acknowledged == [(1, 2)]
    assert handler.summary() == "1 lines"
    await handler.stop()
    assert lines_of(examples) == [{"text": "two\nlines"}]


async def test_lines_that_could_not_be_written_are_not_acknowledged_and_come_later(
    examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands()
    handler = lines_module().Lines(every=0.01)
    await handler.start(3, commands)
    good = handler._file
    with Path("/dev/full").open("ab", buffering=0) as full:
        handler._file = full
        handler.handle(event(2, {"n": 2}))
        await wait_for(lambda: "No space left on device; trying again" in caplog.text, 5)
        handler.handle(event(3, {"n": 3}))
        assert commands.acknowledged == []
        handler._file = good
        await wait_for(lambda: commands.acknowledged, 5)
        await handler.flush(1)
    assert commands.acknowledged[-1] == (1, 3)
    await handler.stop()
    assert lines_of(examples) == [{"n": 2}, {"n": 3}]


async def test_reader_skips_a_torn_line_and_what_came_twice(examples: Path) -> None:
    (examples / "cluster-3.lines").write_bytes(b'\n[1,"s",2,{"n":2}]\n[1,"s",3,{"n"')
    handler = make("lines")
    await handler.start(3, Commands())
    for seq in (2, 3):
        handler.handle(event(seq, {"n": seq}))
    await handler.flush(1)
    await handler.stop()
    assert lines_of(examples) == [{"n": 2}, {"n": 3}]


KILLED = """
import asyncio, sys, msgspec
from lines import Lines
from discluster.gateway import Event
class Commands:
    def taken(self, event): print(event.seq, flush=True)
async def main(seq):
    handler = Lines(every=0.001)
    await handler.start(3, Commands())
    while True:
        seq += 1
        handler.handle(Event(1, seq, "MESSAGE_CREATE", msgspec.Raw(b'{"n":%d}' % seq), "s"))
        await asyncio.sleep(0)
asyncio.run(main(int(sys.argv[1])))
"""


def test_lines_lose_nothing_that_they_acknowledged_when_they_are_killed(examples: Path) -> None:
    acknowledged = 0
    root = str(DOCUMENT.parents[1])
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(acknowledged)],
            stdout=subprocess.PIPE,
            cwd=examples,
            env=os.environ | {"PYTHONPATH": f"{examples}:{root}"},
        ) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            told += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        assert told == sorted(told)
        acknowledged = told[-1]
    read = [body["n"] for body in lines_of(examples)]
    assert read[:acknowledged] == list(range(1, acknowledged + 1))


async def test_members_are_asked_for_without_waiting_in_handle(
    examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands()
    handler = make("members")
    await handler.start(3, commands)
    handler.handle(event(2, {"id": "10", "unavailable": True}, type="GUILD_CREATE"))
    handler.handle(event(3, {"id": "11", "name": "x"}, type="GUILD_CREATE"))
    await wait_for(lambda: commands.sent, 5)
    assert commands.sent == [(1, RequestGuildMembers(guild_id=11, query="", limit=0))]
    for seq in (4, 5):
        body = {"guild_id": "11", "members": [{}, {}]}
        handler.handle(event(seq, body, type="GUILD_MEMBERS_CHUNK"))
    assert handler.summary() == "4 members of 1 guilds"
    commands.refuses = True
    handler.handle(event(6, {"id": "12"}, type="GUILD_CREATE"))
    await wait_for(lambda: "guild 12: shard 1 is not on this cluster" in caplog.text, 5)
    await handler.stop()


async def test_census_tells_of_the_whole_fleet_and_of_whom_it_did_not_hear(examples: Path) -> None:
    commands = Commands()
    handler = make("census")
    methods = call_methods("census", handler)
    commands.method_of = methods.__getitem__
    await handler.start(3, commands)
    for number in (1, 2, 3):
        guild = {"id": str(number), "name": "x", "member_count": 10 * number}
        handler.handle(event(number, guild, type="GUILD_CREATE"))
    handler.handle(event(4, {"id": "2"}, type="GUILD_DELETE"))
    assert msgspec.to_builtins(methods["guild"]("3")) == {
        "id": "3",
        "name": "x",
        "member_count": 30,
    }
    assert methods["guild"]("2") is None
    assert await methods["totals"](None) == {
        "guilds": 2,
        "members": 40,
        "without": {4: "beta is not connected to MASTER"},
    }
