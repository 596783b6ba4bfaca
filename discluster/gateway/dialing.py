# SPDX-License-Identifier: Apache-2.0
"""The first and the last of a socket, each with its limit."""

import asyncio
from typing import Final

from discluster.clock import Clock
from discluster.errors import UnavailableError
from discluster.gateway import urls
from discluster.gateway.ending import Ending
from discluster.gateway.identity import Compression
from discluster.gateway.sockets import Socket, Transport
from discluster.gateway.waiting import end, within

DIAL_LIMIT: Final = 10.0  # seconds
STOP_LIMIT: Final = 1.0


async def dial(
    base: str, compression: Compression, *, transport: Transport, clock: Clock
) -> Socket | Ending:
    """A socket to ``base``, or why there is none."""
    try:
        return await within(
            DIAL_LIMIT,
            transport.connect(urls.dial_url(base, compression)),
            clock=clock,
            discard=_abort,
        )
    except UnavailableError as error:
        return Ending(cause="dial", text=error.message)
    except TimeoutError:
        text = f"{urls.host(base)} did not answer within {DIAL_LIMIT:g} seconds"
        return Ending(cause="dial", text=text)


async def hang_up(
    socket: Socket | None, code: int, *, task: asyncio.Task[None], clock: Clock
) -> None:
    """Says goodbye while ``task``, which serves the socket and waits for the handler, finishes.

    Without a socket there is no handler to wait for, either.
    """
    if socket is None:
        await end(task)
        return
    closing = asyncio.create_task(socket.close(code))
    timer = asyncio.create_task(clock.sleep(STOP_LIMIT))
    try:
        while not timer.done() and (busy := {t for t in (task, closing) if not t.done()}):
            await asyncio.wait({timer, *busy}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(timer, closing, task)


def _abort(socket: Socket) -> None:
    socket.abort()
