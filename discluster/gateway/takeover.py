# SPDX-License-Identifier: Apache-2.0
"""How our own frames get at the bytes of a connection that aiohttp has upgraded.

The only place that uses an interface which aiohttp does not document: the parser that its
connections hand their bytes to once they are upgraded, which is how its own WebSockets are fed.
Where this aiohttp works otherwise, :func:`possible` says so and its WebSockets are used instead.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp


class Parser(Protocol):
    """What takes the bytes of an upgraded connection."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Takes bytes. Answers whether the stream is over for it, and what it left over."""
        ...

    def feed_eof(self) -> None:
        """The connection is lost."""
        ...

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        """Why it was lost."""
        ...


def aiohttps_connection() -> Any:
    """One that is connected to nothing, to be tried out."""
    from aiohttp.client_proto import ResponseHandler  # not documented, so it may be elsewhere

    return ResponseHandler(asyncio.get_running_loop())


def possible(make: Callable[[], Any] = aiohttps_connection) -> bool:
    """Whether a connection of this aiohttp hands its bytes to a parser of ours."""
    probe = _Probe()
    try:
        connection = make()
        connection.data_received(b"before ")
        connection.set_parser(probe, probe)
        connection.data_received(b"after")
        connection.connection_lost(None)
    except Exception:  # of an interface that is not promised, anything may be different
        return False
    return probe.seen == b"before after" and probe.over


def take_over(response: aiohttp.ClientResponse, parser: Parser) -> None:
    """From now on ``parser`` gets what comes in, first what came with the upgrade."""
    connection: Any = response.connection
    connection.protocol.set_parser(parser, parser)


class _Probe:
    def __init__(self) -> None:
        self.seen = b""
        self.over = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.seen += data
        return False, b""

    def feed_eof(self) -> None:
        self.over = True

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        pass
