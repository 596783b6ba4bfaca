# SPDX-License-Identifier: Apache-2.0
"""``ADDRESS:PORT``, as settings and plans have it."""

import ipaddress
import socket
from typing import Final

import msgspec

# A network that nobody has (RFC 5737): it stands for all that is not near.
_FAR_AWAY: Final = ("192.0.2.1", 9)
_ANY: Final = ("0.0.0.0", "::", "")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An IP address or name without brackets, and a port."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> "Endpoint":
        """``text`` is of the form of :data:`discluster.plan.Address`."""
        host, _, port = text.rpartition(":")
        return cls(host=host.strip("[]"), port=int(port))

    @property
    def is_any(self) -> bool:
        """Whether it stands for all addresses of a machine."""
        return self.host in _ANY

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def outward_address() -> str | None:
    """The address with which this machine goes to others; None without a route. Sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_FAR_AWAY)
            return str(probe.getsockname()[0])
    except OSError:
        return None
