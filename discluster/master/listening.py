# SPDX-License-Identifier: Apache-2.0
"""MASTER's two listeners, and what they bear: the port for machines, the socket for operators."""

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from discluster.admission import Bounds
from discluster.errors import UnavailableError
from discluster.master.api.sockets import listening
from discluster.master.hosts.link import certified_host
from discluster.master.serving import runner
from discluster.master.settings import MasterSettings
from discluster.reception import (
    Limits,
    Reception,
    bound_sockets,
    peer_user,
)

# A whole fleet behind one router dials at once when MASTER comes back; it is taken as fast as TLS
# goes, so few are under way at a time. A host has one connection; a second one while MASTER has
# not seen yet that the first is broken, and others to renew its certificate. An operator over TLS
# may have as many.
MACHINES: Final = Limits(bounds=Bounds(strangers=512, per_address=128, per_name=8))
# Whoever may connect has been let in by the file's permissions. One waits for events for half a
# minute; a script may start many.
OPERATORS: Final = Limits(
    bounds=Bounds(strangers=256, per_address=256, per_name=128), unsettled=None
)


def for_machines(tell: Callable[[str], None]) -> Reception:
    """Known are those with a certificate of the fleet. ``tell``: see :class:`Reception`."""
    return Reception(what="MASTER", limits=MACHINES, name=certified_host, tell=tell)


def for_operators() -> Reception:
    """Known by their user."""
    return Reception(what="MASTER's socket", limits=OPERATORS, name=_user)


async def serve_machines(
    stack: AsyncExitStack,
    reception: Reception,
    application: web.Application,
    settings: MasterSettings,
    context: Callable[[], ssl.SSLContext],
) -> None:
    """Until ``stack`` is closed. ``context``: asked for each connection.

    Raises:
        UnavailableError: the address cannot be used.
    """
    protocol = await _protocol(stack, reception, application)
    host, port = settings.address
    try:
        reception.open(bound_sockets(host, port), protocol, context)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UnavailableError(
            f"cannot listen on {settings.listen}: {_reason(error)}",
            hint=f"another program has the port ('ss -ltnp sport = :{port}' tells which), or the"
            " address is not one of this machine's; see 'listen' in master.yaml",
        ) from None


async def serve_operators(
    stack: AsyncExitStack,
    reception: Reception,
    application: web.Application,
    settings: MasterSettings,
) -> None:
    """Until ``stack`` is closed.

    Raises:
        UnavailableError: the socket cannot be made.
    """
    protocol = await _protocol(stack, reception, application)
    reception.open([listening(settings.socket, group=settings.admin_group)], protocol)


def known_operator(reception: Reception, request: web.Request, name: str) -> None:
    """The operator ``name`` makes this request: it may wait for its answer, as for events."""
    reception.recognise(request.transport, f"operator {name}")
    reception.settle(request.transport)


async def _protocol(
    stack: AsyncExitStack, reception: Reception, application: web.Application
) -> Callable[[], asyncio.BaseProtocol]:
    made = runner(application)
    await made.setup()
    # In the opposite order: nobody new, then a moment for those that are there, then the end.
    stack.push_async_callback(reception.close)
    stack.push_async_callback(made.cleanup)
    stack.callback(reception.shut)
    assert made.server is not None
    return made.server


def _user(transport: asyncio.BaseTransport) -> int:
    return peer_user(transport.get_extra_info("socket"))


def _reason(error: Exception) -> str:
    """Without asyncio's prose; a name that does not resolve has no errno of its own."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror or error)
