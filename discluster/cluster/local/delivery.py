# SPDX-License-Identifier: Apache-2.0
"""What one connection is sent of one shard, and how far its client has come with it. No I/O.

First comes the image, if it identified; then events by position, out of the log.
"""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from discluster.cluster.local.encoding import Encoder
from discluster.cluster.local.entries import Frame
from discluster.cluster.local.log import EventLog
from discluster.cluster.local.payloads import dispatch

_NUMBER: Final = re.compile(rb'"s":(\d+)')
_HEAD: Final = 160  # bytes of a frame in which its number is
_EVERYTHING: Final = 1 << 62


class Delivery:
    """``position``: up to which the log was read. ``sent``: the last ``s`` that went out.
    ``since``: monotonic seconds when the oldest event went out that is not acknowledged, or when
    the client acknowledged something last.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        encoder: Encoder,
        after: int,
        without: AbstractSet[str] = frozenset(),
        image: Iterable[bytes] = (),
        resumes: bool = False,
        now: float,
    ) -> None:
        """``after``: a position; events follow it. ``without``: types that the client does not get.
        ``image``: payloads that come first. ``resumes``: RESUMED follows what the log has now.
        """
        self.position = after
        self.sent = max(1, after)
        self.acknowledged = after
        self.since = now
        self._log = log
        self._encoder = encoder
        self._without = without
        self._image: Iterator[bytes] | None = iter(image)
        self._resumed_at = log.last if resumes else None
        self._rest: list[Frame] | None = None

    @property
    def owed(self) -> int:
        """Events that went out and are not acknowledged; rather too many than too few."""
        return self.position - self.acknowledged

    def more(self, size: int, now: float) -> Frame:
        """The next bytes for the socket, about ``size`` at most; empty: nothing now."""
        if self._image is not None:
            if text := self._pictured(size):
                return text
            self._image = None
        if self._rest is not None:
            return self._last(size)
        if self._resumed_at is not None and self.position >= self._resumed_at:
            return self._resumed()
        if self.position == self.acknowledged:
            self.since = now
        position = self.position
        while True:
            frames, read = self._read(position, size)
            if frames or read == position:
                break
            position = read
        self._passed(frames, read)
        if not frames:
            # Of what came last nothing may be for clients.
            return self._resumed() if self._resumed_at is not None else b""
        return self._encoder.forward(frames)

    def finish(self) -> None:
        """No event follows but for those that the log has now."""
        frames, read = self._log.read_each(self.position, size=_EVERYTHING, without=self._without)
        self._passed(frames, read)
        self._rest = frames

    @property
    def finished(self) -> bool:
        """Everything went out, and nothing follows."""
        return self._image is None and self._rest is not None and not self._rest

    def confirm(self, seq: int, now: float) -> int:
        """The client has everything up to ``seq``; the position up to which that is. It has no more
        than was sent, whatever it says.
        """
        reached = self.position if seq >= self.sent else seq
        if reached > self.acknowledged:
            self.acknowledged = reached
            self.since = now
        return self.acknowledged

    def _read(self, after: int, size: int) -> tuple[list[Frame], int]:
        if self._without or self._encoder.by_itself:
            return self._log.read_each(after, size=size, without=self._without)
        return self._log.read(after, size=size)

    def _resumed(self) -> bytes:
        self._resumed_at = None
        return self._encoder.say(dispatch("RESUMED", self.sent, b"{}"))

    def _passed(self, frames: list[Frame], read: int) -> None:
        if frames:
            # What is left out is never acknowledged by itself.
            self.sent = _number(frames[-1], read) if self._without else read
        self.position = read

    def _pictured(self, size: int) -> bytes:
        assert self._image is not None
        parts: list[bytes] = []
        for payload in self._image:
            parts.append(self._encoder.say(payload))
            size -= len(parts[-1])
            if size <= 0:
                break
        return b"".join(parts)

    def _last(self, size: int) -> Frame:
        assert self._rest is not None
        count = 0
        for frame in self._rest:
            count += 1
            size -= len(frame)
            if size <= 0:
                break
        now, self._rest = self._rest[:count], self._rest[count:]
        return self._encoder.forward(now) if now else b""


def _number(frame: Frame, otherwise: int) -> int:
    found = _NUMBER.search(frame, 0, _HEAD)
    return int(found[1]) if found else otherwise
