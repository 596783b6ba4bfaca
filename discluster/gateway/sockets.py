# SPDX-License-Identifier: Apache-2.0
"""What a shard asks of the socket under its connection."""

from typing import Final, Protocol

import msgspec

CLOSE_LIMIT: Final = 1.0  # seconds for the close handshake; then the socket is aborted


class Closed(msgspec.Struct, frozen=True):
    """The end of a socket. ``code``: of the peer's close frame, None if there was none."""

    code: int | None
    reason: str = ""


Message = bytes | str | memoryview
"""What a binary message held, or the text of another. A view is of what the socket read, and nobody
has looked whether it is UTF-8."""

Messages = list[Message]
"""In their order; never empty."""


class Socket(Protocol):
    """One open WebSocket. What was received is held back in the kernel while nobody receives."""

    async def receive(self) -> Messages | Closed:
        """All messages that came since the last call, or Closed: at the end, and at every further
        call. To be called by one task only.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Writes one text message.

        Raises:
            ConnectionError: the socket is closed and nothing was written.
        """
        ...

    async def close(self, code: int) -> None:
        """Says goodbye with ``code`` and ends the socket within a second, whoever is receiving.

        A second call waits for the first, whose code counts.
        """
        ...

    def abort(self) -> None:
        """Ends the socket at once without a close frame. Harmless on one that has ended."""
        ...


class Transport(Protocol):
    """Opens sockets."""

    async def connect(self, url: str) -> Socket:
        """A socket after its WebSocket handshake. Cancellable.

        Raises:
            UnavailableError: the handshake did not succeed.
        """
        ...


def printable(text: str | None) -> str:
    """Text from a peer, fit for a journal."""
    return "".join(c if c.isprintable() else " " for c in (text or "")[:200])
