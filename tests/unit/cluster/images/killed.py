# SPDX-License-Identifier: Apache-2.0
"""A process that keeps an image until it is killed: ``python -m … DIRECTORY``.

Each event is made of its sequence, so whoever finds the image knows what must be in it.
"""

import itertools
import sys
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import SystemClock
from discluster.cluster.images import Images
from discluster.gateway.events import Event
from tests.unit.cluster.images.events import SHARD, Session, guild

SESSION: Final = "f00d"
GUILDS: Final = 20
_PADDING: Final = "x" * 4000


def description(seq: int) -> str:
    """What event ``seq`` sets in the guild that it is about."""
    return f"{seq}{_PADDING}"


def guild_of(seq: int) -> int:
    """Which guild event ``seq`` is about."""
    return seq % GUILDS


def expected(seq: int) -> list[str | None]:
    """The descriptions of all guilds as of ``seq``."""
    newest: list[str | None] = [None] * GUILDS
    for past in range(max(GUILDS + 2, seq - GUILDS + 1), seq + 1):
        newest[guild_of(past)] = description(past)
    return newest


def _change(seq: int) -> Event:
    body = {"id": str(guild_of(seq)), "description": description(seq)}
    return Event(SHARD, seq, "GUILD_UPDATE", msgspec.Raw(msgspec.json.encode(body)), SESSION)


def main(directory: Path) -> None:
    images = Images(directory, siblings=None, limit=1 << 30, boot_id="boot", clock=SystemClock())
    image, session = images.open(SHARD, session_id="", seq=0), Session(SESSION)
    names = [str(number) for number in range(GUILDS)]
    image.take([session.ready(*names)])
    image.take([session.event("GUILD_CREATE", guild(name)) for name in names])
    for seq in itertools.count(GUILDS + 2, 3):
        image.take([_change(seq), _change(seq + 1), _change(seq + 2)])
        # Taken: from here on Discord will not send it again.
        sys.stdout.write(f"{seq + 2}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
