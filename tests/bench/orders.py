# SPDX-License-Identifier: Apache-2.0
"""What a measured program is told, in its environment, and what it says, on its standard output.

Imported in the virtual environment of other people's clients too: the standard library only.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

Compression = Literal["none", "zlib", "zstd"]

_VARIABLE: Final = "DISCLUSTER_BENCH"
COUNTED: Final = "counted"
NEVER: Final = 1 << 62
READY: Final = "ready"
INTENTS: Final = 1 | 1 << 9 | 1 << 15
"""GUILDS, GUILD_MESSAGES and MESSAGE_CONTENT."""
EVENT: Final = "MESSAGE_CREATE"
"""What is counted; everything else that arrives is overhead of the client's own."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """``api``, ``gateway``: where the simulated Discord is. ``marks``: after how many events,
    counted from the start of the program and over all shards, it says ``counted N``. ``modules``:
    where Node finds its packages.
    """

    api: str
    gateway: str
    token: str
    shards: int
    compression: Compression
    marks: tuple[int, ...]
    modules: str = ""

    def environment(self) -> dict[str, str]:
        """To be added to the program's environment."""
        return {_VARIABLE: json.dumps(asdict(self))}


def read_orders(environ: Mapping[str, str] = os.environ) -> Orders:
    """What this program was told."""
    told = json.loads(environ[_VARIABLE])
    return Orders(**{**told, "marks": tuple(told["marks"])})


class Teller:
    """Counts, and tells when a mark is reached."""

    __slots__ = ("_counted", "_mark", "_marks")

    def __init__(self, marks: tuple[int, ...]) -> None:
        self._marks = iter(marks)
        self._counted = 0
        self._mark = next(self._marks)

    def count(self) -> None:
        """One event more."""
        self._counted += 1
        if self._counted >= self._mark:
            self._tell()

    def count_many(self, events: int) -> None:
        """So many events more."""
        self._counted += events
        if self._counted >= self._mark:
            self._tell()

    def _tell(self) -> None:
        # What was counted, not the mark: an event too many is to be seen.
        say(f"{COUNTED} {self._counted}")
        self._mark = next(self._marks, NEVER)


def say(line: str) -> None:
    """One line to whoever measures."""
    os.write(1, line.encode() + b"\n")
