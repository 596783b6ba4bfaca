# SPDX-License-Identifier: Apache-2.0
"""The consumers of docs/brokers.md, run as they stand there."""

import asyncio
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.brokers import installation
from tests.brokers.publishing import ask_nats, ask_redis, publishing
from tests.brokers.servers import BrokerServer, Kind, broker_server
from tests.scenario.processes import environment
from tests.waiting import wait_for

EVENTS = 300


def program(name: str) -> str:
    """The block of the document that begins with its name."""
    blocks = dict(
        re.findall(
            r"^```python\n# (\w+)\.py\n(.*?)^```$",
            installation.DOCUMENT.read_text(),
            re.MULTILINE | re.DOTALL,
        )
    )
    return str(blocks[name])


@contextmanager
def consumer(path: Path, url: str, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [str(installation.PYTHON), str(path), url, str(database)], env=environment({})
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def seen(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database, timeout=10)) as db:
        try:
            return int(db.execute("select count(*) from seen").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # it is just being made


async def length(server: BrokerServer) -> int:
    """Messages in the stream."""
    if server.kind == "redis":
        return int((await ask_redis(server, "XLEN", "discord:MESSAGE_CREATE"))[1:])
    info = msgspec.json.decode(await ask_nats(server, "$JS.API.STREAM.INFO.DISCORD"))
    return int(info["state"]["messages"])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_consumer_of_the_document_takes_each_event_once(tmp_path: Path, kind: Kind) -> None:
    path, database = tmp_path / f"{kind}_once.py", tmp_path / "once.sqlite"
    path.write_text(program(f"{kind}_once"))
    async with broker_server(kind, tmp_path / "s") as server:
        url = f"{kind}://127.0.0.1:{server.port}"
        settings = (
            {"servers": [url], "stream": {"create": "DISCORD", "duplicates": 1}}
            if kind == "nats"
            else {"server": url}
        )
        async with publishing(kind, settings, tmp_path) as ours:
            for _ in range(EVENTS // 10):
                ours.publish(b'{"content":"x"}', count=10)
            await ours.all_acknowledged()
        with consumer(path, url, database) as process:
            await wait_for(lambda: seen(database) >= 100, 20, what="a hundred are seen")
            process.kill()
        if kind == "nats":
            # Longer than the stream remembers ids: only the consumer can know.
            await asyncio.sleep(2.5)
        async with publishing(kind, settings, tmp_path) as ours:  # the same events, once more
            ours.publish(b'{"content":"x"}', count=EVENTS)
            ours.publish(b'{"content":"the last"}')
            await ours.all_acknowledged()
        assert await length(server) == 2 * EVENTS + 1, "the broker has each of them twice"
        with consumer(path, url, database):
            await wait_for(lambda: seen(database) > EVENTS, 20, what="the last one is seen")
    with closing(sqlite3.connect(database)) as db:
        (last,) = db.execute("select count(*) from seen where content = 'the last'").fetchone()
    assert (seen(database), last) == (EVENTS + 1, 1)
