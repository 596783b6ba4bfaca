# SPDX-License-Identifier: Apache-2.0
"""What is kept of one guild: its GUILD_CREATE as it came, and the events since."""

from collections.abc import Iterator
from typing import Final

from discluster.cluster.images.patching import patched

# Measured (tests/unit/cluster/images/test_room.py): what Python adds to the text itself, bytes.
_OF_A_GUILD: Final = 400
_OF_A_PATCH: Final = 120

# Of patches, bytes: to bring a small guild up to date after every other event gains nothing.
_LEAST: Final = 8192


class GuildImage:
    """Events are only put by. They are worked in when the guild is asked for, or when they take as
    much room as the guild itself: so an event costs some nanoseconds for each of its own bytes,
    however large its guild is.
    """

    __slots__ = ("_base", "_patches", "_patches_size")

    def __init__(self, body: bytes) -> None:
        """``body`` of GUILD_CREATE."""
        self._base = body
        self._patches: list[tuple[str, bytes]] = []
        self._patches_size = 0

    @property
    def size(self) -> int:
        """Memory that it takes, bytes."""
        return _OF_A_GUILD + len(self._base) + self._patches_size

    def patch(self, name: str, body: bytes, *, me: str) -> None:
        """An event of this guild; ``me``: the bot's user id."""
        self._patches.append((name, body))
        self._patches_size += _OF_A_PATCH + len(body)
        if self._patches_size > max(len(self._base), _LEAST):
            self.body(me=me)

    def body(self, *, me: str) -> bytes:
        """Of GUILD_CREATE as of now."""
        if self._patches:
            self._base = patched(self._base, self._patches, me=me)
            self._patches.clear()
            self._patches_size = 0
        return self._base

    def events(self) -> Iterator[tuple[str, bytes]]:
        """What makes it anew: pairs of type and body."""
        yield "GUILD_CREATE", self._base
        yield from self._patches
