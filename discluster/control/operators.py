# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket on which an operator asks CONTROL how its machine is, and can do nothing else.

The directory and the socket's mode tell who may: CONTROL's user, root, and the group
``discluster-admin``.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from discluster.admission import Bounds
from discluster.console import HostStatus
from discluster.control.sockets import listen
from discluster.errors import ProtocolError
from discluster.messages import decode, encode, operator_to_control
from discluster.reception import Limits

log = logging.getLogger(__name__)

_LINE_LIMIT: Final = 4096
_PATIENCE: Final = 10.0
# Each asks once; nobody keeps out an operator of another user, such as root.
_LIMITS: Final = Limits(
    bounds=Bounds(strangers=128, per_address=64, per_name=64), unsettled=2 * _PATIENCE
)


@contextlib.asynccontextmanager
async def operator_socket(path: Path, status: Callable[[], HostStatus]) -> AsyncIterator[None]:
    """Answers on ``path`` with ``status()``, each asker once, until the context ends.

    Raises:
        UnavailableError: the socket cannot be made, or another CONTROL serves it.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await _answer(reader, writer, status)
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


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: Callable[[], HostStatus]
) -> None:
    if line := await reader.readline():
        decode(operator_to_control, line, peer="an operator")
        writer.write(encode(status()) + b"\n")
        await writer.drain()
