# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket on which an operator asks CONTROL how its machine is, and calls its clusters
while MASTER is away; nothing else can be done there.

The directory and the socket's mode tell who may: CONTROL's user, root, and the group
``discluster-admin``.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from discluster.admission import Bounds
from discluster.console import CallReport, HostStatus
from discluster.control.sockets import listen, peer_of
from discluster.errors import ProtocolError
from discluster.messages import (
    LONGEST_ARGUMENTS,
    CallRequest,
    Message,
    StatusQuery,
    decode,
    encode,
    operator_to_control,
)
from discluster.reception import Limits

log = logging.getLogger(__name__)

_LINE_LIMIT: Final = LONGEST_ARGUMENTS + 16 * 1024
_PATIENCE: Final = 10.0
# Each asks once; nobody keeps out an operator of another user, such as root.
_LIMITS: Final = Limits(
    bounds=Bounds(strangers=128, per_address=64, per_name=64),
    unsettled=2 * _PATIENCE,
    bytes=_LINE_LIMIT,
)

Ask = Callable[[CallRequest], Awaitable[CallReport]]


@contextlib.asynccontextmanager
async def operator_socket(
    path: Path, status: Callable[[], HostStatus], call: Ask
) -> AsyncIterator[None]:
    """Answers on ``path``, each asker once, until the context ends: with ``status()``, or with what
    comes of a ``call``, which may take as long as its time-out.

    Raises:
        UnavailableError: the socket cannot be made, or another CONTROL serves it.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                asked = await _question(reader)
            if isinstance(asked, CallRequest):
                reception.settle(writer.transport)
                _record(asked, writer)
                await _answer(writer, await call(asked))
            elif asked is not None:
                await _answer(writer, status())
        except ProtocolError as error:
            log.warning("closing a connection on %s: %s", path, error.render())
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # it went away, is silent, or says a line without end
        finally:
            writer.close()
            # One that does not read is not waited for.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await writer.wait_closed()
            writer.transport.abort()

    reception = await listen(
        path, serve, limit=_LINE_LIMIT, what="the operators' socket", limits=_LIMITS
    )
    try:
        yield
    finally:
        await reception.close(patience=1.0)
        path.unlink(missing_ok=True)


async def _question(reader: asyncio.StreamReader) -> StatusQuery | CallRequest | None:
    line = await reader.readline()
    return decode(operator_to_control, line, peer="an operator") if line else None


async def _answer(writer: asyncio.StreamWriter, answer: Message) -> None:
    async with asyncio.timeout(_PATIENCE):
        writer.write(encode(answer) + b"\n")
        await writer.drain()


def _record(asked: CallRequest, writer: asyncio.StreamWriter) -> None:
    peer = peer_of(writer)
    told = "process %d of user %d calls %s of the clusters here"
    log.info(told, peer.pid, peer.uid, asked.name, extra={"CALL": asked.name})
