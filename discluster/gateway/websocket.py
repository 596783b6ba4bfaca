# SPDX-License-Identifier: Apache-2.0
"""A WebSocket over a connection that aiohttp has opened and upgraded: our own frames.

Whatever one read of the socket brought is handed on in one piece, so that at high rates a task
switch serves many events. When nobody receives, two reads at most are taken from the kernel.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from discluster.gateway import frames
from discluster.gateway.frames import Control, FrameError, FrameReader
from discluster.gateway.sockets import CLOSE_LIMIT, Closed, Messages, printable

_PONGS_HELD: Final = 64 * 1024  # bytes; a peer that reads nothing gets no further pongs


class WebSocket:
    """A socket. ``feed_data`` and ``feed_eof`` are how the bytes of the connection come in."""

    __slots__ = (
        "_end",
        "_gone",
        "_goodbye",
        "_messages",
        "_paused",
        "_reader",
        "_release",
        "_tcp",
        "_waiter",
    )

    def __init__(
        self, tcp: asyncio.Transport, *, limit: int, release: Callable[[], object]
    ) -> None:
        """``release``: called when the socket has ended, at times more than once. ``limit``: as of
        FrameReader.
        """
        self._tcp = tcp
        self._release = release
        self._reader = FrameReader(limit=limit)
        self._messages: Messages = []
        self._waiter: asyncio.Future[None] | None = None
        self._end: Closed | None = None  # nothing more comes
        self._goodbye = False  # ours was said
        self._gone = asyncio.Event()  # the connection is lost
        self._paused = False

    # --- what the connection calls ---------------------------------------------------------------

    async def receive(self) -> Messages | Closed:
        if not self._messages and self._end is None:
            self._resume()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._messages:
            messages, self._messages = self._messages, []
            return messages
        return self._end or Closed(None)

    async def send(self, data: bytes) -> None:
        if self._end is not None or self._tcp.is_closing():
            raise ConnectionResetError("the socket is closed")
        self._tcp.write(frames.encode(frames.TEXT, data))

    async def close(self, code: int) -> None:
        if not self._goodbye:
            self._goodbye = True
            if not self._tcp.is_closing():
                self._tcp.write(frames.encode(frames.CLOSE, frames.close_data(code)))
            self._messages.clear()
            self._finish(Closed(None))
            self._resume()  # to meet the peer's answer
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._gone.wait()
        except TimeoutError:
            pass  # a peer that does not answer gets no more time
        finally:
            self.abort()

    def abort(self) -> None:
        self._tcp.abort()
        self._finish(Closed(None))
        self._release()

    # --- what comes from the peer ----------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """The next bytes of the stream. The answer is that of an aiohttp parser: not at the end,
        and nothing left over.
        """
        if self._end is None:
            try:
                self._take(self._reader.feed(data))
            except FrameError as error:
                self._tcp.abort()
                self._finish(Closed(None, error.message))
        elif self._goodbye:
            self._look_for_close(data)
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost."""
        self._finish(Closed(None))
        self._gone.set()

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        """Why the connection was lost; :meth:`feed_eof` is called, too."""

    def _take(self, messages: Messages) -> None:
        self._messages = self._messages + messages if self._messages else messages
        if self._reader.controls:
            self._look_at_controls()
        if not self._messages:
            return
        if not self._wake() and not self._paused:
            # Who was woken may not have had its turn yet: what comes meanwhile stays out, too.
            self._paused = True
            self._tcp.pause_reading()

    def _look_at_controls(self) -> None:
        for frame in self._reader.controls:
            self._controlled(frame)
        self._reader.controls.clear()

    def _controlled(self, frame: Control) -> None:
        if frame.opcode == frames.PING:
            if self._tcp.get_write_buffer_size() < _PONGS_HELD:
                self._tcp.write(frames.encode(frames.PONG, frame.data))
        elif frame.opcode == frames.CLOSE:
            code, reason = frames.close_code(frame.data)
            self._finish(Closed(code, printable(reason)))

    def _look_for_close(self, data: bytes) -> None:
        """We said goodbye: once the peer has, too, the connection may go."""
        try:
            self._reader.feed(data)
        except FrameError:
            self._tcp.abort()
            return
        if any(frame.opcode == frames.CLOSE for frame in self._reader.controls):
            self._tcp.close()

    # --- inside ----------------------------------------------------------------------------------

    def _finish(self, end: Closed) -> None:
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> bool:
        """Whether somebody waited that had not been woken."""
        if self._waiter is None or self._waiter.done():
            return False
        self._waiter.set_result(None)
        return True

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._tcp.is_closing():
                self._tcp.resume_reading()
