# SPDX-License-Identifier: Apache-2.0
"""Notes counted events as tests/chaos/recorder.py does, where nothing of ours is installed.

recording.mjs is the same in JavaScript.
"""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

RECORD: Final = struct.Struct("<QQQQI4x32s")
"""As in tests/chaos/recorder.py."""


class Recording:
    """One process's file: FIRST-PID-NANOSECONDS.events; FIRST is the first shard that it runs."""

    def __init__(self, directory: str, *, first: int, shards: int) -> None:
        """``shards``: of the whole bot."""
        name = f"{first}-{os.getpid()}-{time.monotonic_ns()}.events"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(Path(directory, name), flags, 0o640)
        self._shards = shards
        self._sessions: dict[int, bytes] = {}

    def dispatch(self, name: str, body: Any, seq: int) -> None:
        """A dispatch, before the bot has handled it. ``seq`` 0: the library does not tell it."""
        if not isinstance(body, Mapping):
            return
        if name == "READY":
            self._sessions[body["shard"][0]] = body["session_id"].encode()
        elif "_count" in body:
            guild = int(body["guild_id"])
            shard = (guild >> 22) % self._shards
            session = self._sessions.get(shard, b"")
            record = RECORD.pack(guild, body["_count"], seq, time.monotonic_ns(), shard, session)
            os.write(self._file, record)
