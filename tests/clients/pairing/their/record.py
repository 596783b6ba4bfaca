# SPDX-License-Identifier: Apache-2.0
"""Writes down what a library gives to its bot, so that it outlives a SIGKILL; record.mjs likewise.

One line, in one write, for each: `ready SHARD`, `resumed`, `guild ID`, `event GUILD COUNT`,
`message` for an object that the library made, `cached GUILDS`, `members COUNT` that answer a
request.
"""

import os
from collections.abc import Mapping

from tests.clients.drivers.report import settings


class Record:
    """Appends to the file that `--config` names."""

    def __init__(self) -> None:
        self.asks: bool = settings()["asks"]
        """Whether the bot is to send commands once it is ready."""
        self._file = os.open(settings()["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def line(self, *words: object) -> None:
        """These words."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    def packet(self, name: str, body: object) -> None:
        """A dispatch as the library decoded it."""
        if name == "RESUMED":
            self.line("resumed")
        elif not isinstance(body, Mapping):
            return
        elif name == "READY":
            self.line("ready", body["shard"][0])
        elif name == "GUILD_CREATE":
            self.line("guild", body["id"])
        elif "_count" in body:
            self.line("event", body["guild_id"], body["_count"])
