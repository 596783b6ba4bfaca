# SPDX-License-Identifier: Apache-2.0
"""Ports for the servers of tests, of which several processes may run side by side."""

import contextlib
import functools
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_BLOCK: Final = 128
_BLOCKS: Final = 64


def free_port() -> int:
    """A port on loopback that nobody listens on just now.

    None of those that the kernel gives to whoever connects or asks for any: a server that is down
    for a moment would find that somebody has its port.
    """
    for port in itertools.islice(_ports(), _BLOCK):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("somebody listens on every port that this process may use")


@functools.cache
def _ports() -> Iterator[int]:
    """Round and round through a block that no other process of tests has."""
    lowest = int(_EPHEMERAL.read_text().split()[0])
    for first in range(lowest - _BLOCKS * _BLOCK, lowest, _BLOCK):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0discluster-tests-{first}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # so that the kernel lets go of it when this process ends, and nobody before
        return itertools.cycle(range(first, first + _BLOCK))
    raise RuntimeError(f"{_BLOCKS} processes of tests run already")
