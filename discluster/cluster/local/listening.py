# SPDX-License-Identifier: Apache-2.0
"""Where the local gateway can be reached, and how many strangers it bears (docs/limits.md)."""

import asyncio
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from discluster.admission import Bounds
from discluster.errors import ConfigurationError, UnavailableError
from discluster.reception import Limits, Reception, bound_sockets, bound_unix_socket

_LIMITS: Final = Limits(
    bounds=Bounds(strangers=256, per_address=256, per_name=8), unsettled=30.0, bytes=32 * 1024
)


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` and ``port``: on loopback. ``path``: of a UNIX socket."""

    host: str | None
    port: int
    path: Path | None

    @property
    def url_host(self) -> str:
        """As it stands in a URL."""
        if self.host is None:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def told(self) -> str:
        """In words."""
        places = [f"http://{self.url_host}"] if self.host is not None else []
        return " and ".join([*places, *([str(self.path)] if self.path is not None else [])])


def addresses(*, host: str | None, first_port: int, path: Path | None, cluster: int) -> Addresses:
    """Of one cluster.

    Raises:
        ConfigurationError: there is none, or it is no loopback address, or no port is left.
    """
    port = first_port + cluster
    if host is None and path is None:
        raise ConfigurationError(
            "local_gateway: 'address' is null and 'unix_socket' false, so no bot could connect",
            hint="set one of them in cluster.yaml",
        )
    if host is not None and not _is_loopback(host):
        raise ConfigurationError(
            f"local_gateway.address: {host} is no loopback address",
            hint="127.0.0.1 or ::1; whoever reaches it can try tokens",
        )
    if host is not None and port > 65_535:
        raise ConfigurationError(
            f"local_gateway.first_port: {first_port} leaves no port for cluster {cluster}",
            hint="lower it, or use 'unix_socket'",
        )
    return Addresses(host=host, port=port, path=path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(where: Addresses, make: Callable[[Reception], asyncio.BaseProtocol]) -> Reception:
    """Listens there. ``make``: our end of one connection.

    Raises:
        UnavailableError: an address cannot be had.
    """
    reception = Reception(what="the local gateway", limits=_LIMITS, name=lambda _: None)
    sockets = []
    try:
        if where.host is not None:
            sockets += bound_sockets(where.host, where.port)
        if where.path is not None:
            sockets.append(bound_unix_socket(where.path, mode=0o660))
        reception.open(sockets, lambda: make(reception))
    except OSError as error:
        for one in sockets:
            one.close()
        raise UnavailableError(
            f"the local gateway cannot listen on {where.told}: {error.strerror}",
            hint="another program has the port, or the socket's directory is missing"
            " (systemd-tmpfiles --create); see 'local_gateway' in cluster.yaml",
        ) from None
    return reception
