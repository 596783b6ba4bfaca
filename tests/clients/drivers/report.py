# SPDX-License-Identifier: Apache-2.0
"""What all drivers in Python share: their settings, what they saw, and the talk with the test.

A driver is started with `--config FILE` (JSON), prints one JSON object per line, answers
each line on its standard input with a report, and ends when that ends, so that it cannot outlive
the test. drivers/report.mjs is the same in JavaScript.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def settings() -> Line:
    """The file after `--config`; tests.clients.foreign.Wanted says what is in it."""
    loaded: Line = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
    return loaded


def say(**line: object) -> None:
    """One line for the test."""
    print(json.dumps(line), flush=True)


class Seen:
    """What the client handed to its user."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = defaultdict(list)
        self._arrived: list[str] = []
        self._messages = {"sent": 0, "made": 0}

    def packet(self, name: str, body: object) -> None:
        """A dispatch as the client decoded it."""
        if not isinstance(body, Mapping):
            return
        if name == "GUILD_CREATE":
            self._arrived.append(body["id"])
        elif "_count" in body:
            self._messages["sent"] += name == "MESSAGE_CREATE"
            self._counts[body["guild_id"]].append(body["_count"])

    def message(self) -> None:
        """A message as an object of the client's own."""
        self._messages["made"] += 1

    def report(self, **more: object) -> None:
        """Say everything."""
        say(
            event="report",
            messages=self._messages,
            arrived=self._arrived,
            counts=self._counts,
            **more,
        )


async def obey(
    seen: Seen,
    running: asyncio.Task[Any],
    *,
    end: Callable[[], Awaitable[object]],
    more: Callable[[], Line] = dict,
) -> None:
    """Report, with `more`, as often as the test asks; end the client when it asks no more.

    Raises what `running`, the client, ends with.
    """
    asking = asyncio.create_task(_answer(seen, more))
    await asyncio.wait({asking, running}, return_when=asyncio.FIRST_COMPLETED)
    if asking.done():
        await end()
    asking.cancel()
    await running


async def _answer(seen: Seen, more: Callable[[], Line]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        seen.report(**more())
