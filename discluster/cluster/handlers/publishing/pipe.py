# SPDX-License-Identifier: Apache-2.0
"""A connection to a broker: bytes both ways, and every way to lose it as one error."""

import asyncio
import ssl
from typing import Final, Self

import msgspec

from discluster.cluster.handlers.publishing.broker import BrokerError

_READ: Final = 256 * 1024  # bytes at once
_GOODBYE: Final = 1.0  # seconds


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """``path``: of a UNIX socket, instead of ``host`` and ``port``. ``tls``: from the first byte,
    or, where the protocol says so, from its first line on.
    """

    host: str = ""
    port: int = 0
    path: str | None = None
    tls: bool = False

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Pipe:
    """Open until it is closed; made with :meth:`open`."""

    def __init__(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._aborted: str | None = None

    @classmethod
    async def open(cls, address: Address, context: ssl.SSLContext | None) -> Self:
        """``context``: for TLS from the first byte.

        Raises:
            BrokerError: nobody answers there, or not as TLS wants it.
        """
        try:
            if address.path is not None:
                streams = await asyncio.open_unix_connection(address.path)
            else:
                streams = await asyncio.open_connection(address.host, address.port, ssl=context)
        except OSError as error:
            raise BrokerError(f"{address}: cannot connect: {_reason(error)}") from None
        return cls(address, *streams)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Raises BrokerError."""
        try:
            await self._writer.start_tls(context, server_hostname=self._address.host)
        except OSError as error:
            raise BrokerError(f"{self._address}: TLS fails: {_reason(error)}") from None

    async def read(self) -> bytes:
        """What is there, at least one byte.

        Raises:
            BrokerError: the connection is closed, lost or aborted.
        """
        try:
            data = await self._reader.read(_READ)
        except OSError as error:
            raise self._lost(_reason(error)) from None
        if not data:
            raise self._lost("it closed the connection")
        if self._aborted is not None:
            raise self._lost(self._aborted)
        return data

    def write(self, data: bytes) -> None:
        """Never waits: what is written is what is held, which has a bound."""
        if not self._writer.is_closing():
            self._writer.write(data)

    def abort(self, reason: str) -> None:
        """The first reason counts."""
        if self._aborted is None:
            self._aborted = reason
            self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    def _lost(self, reason: str) -> BrokerError:
        return BrokerError(f"{self._address}: {self._aborted or reason}")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
