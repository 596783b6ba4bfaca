# SPDX-License-Identifier: Apache-2.0
"""A switch with cables: one bridge in a namespace of its own, one veth pair per machine.

No address of it exists in the host's namespace and no route leads out.
"""

from typing import Final, final

from tests.lab.commands import run

NETWORK: Final = "10.77.0"
# Permanent neighbour entries with this address swallow packets without a sign, like a bad cable.
NOWHERE: Final = "02:00:00:00:00:01"
INTERFACE: Final = "host0"


def address(number: int) -> str:
    """The IPv4 address of machine ``number`` (1 to 254)."""
    return f"{NETWORK}.{number}"


@final
class Switch:
    """The bridge; ports are called after the machine's number."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def create(self) -> None:
        run(["ip", "netns", "add", self._namespace])
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def remove(self) -> None:
        """Undo :meth:`create`."""
        run(["ip", "netns", "delete", self._namespace])

    def plug(self, namespace: str, number: int) -> None:
        """Make the namespace of machine ``number``, with its interface, and connect it."""
        run(["ip", "netns", "add", namespace])
        peer = ["peer", "name", _port(number), "netns", self._namespace]
        mac = f"02:64:6c:00:00:{number:02x}"
        inside = ["ip", "-n", namespace]
        run([*inside, "link", "add", INTERFACE, "address", mac, "type", "veth", *peer])
        run([*inside, "address", "add", f"{address(number)}/24", "dev", INTERFACE])
        for interface in ("lo", INTERFACE):
            run([*inside, "link", "set", interface, "up"])
        self._ip("link", "set", _port(number), "master", "bridge", "up")

    def unplug(self, namespace: str, number: int) -> None:
        """Undo :meth:`plug`; its connections are forgotten without telling their peers."""
        self.link(number, up=False)
        self._ip("link", "delete", _port(number))
        run(["ip", "netns", "delete", namespace])

    def link(self, number: int, *, up: bool) -> None:
        """Pull the machine's cable at the switch, or put it back."""
        self._ip("link", "set", _port(number), "up" if up else "down")

    def _ip(self, *words: str) -> None:
        run(["ip", "-n", self._namespace, *words])


def silence(namespace: str, number: int, *, silent: bool) -> None:
    """Whether what the machine in ``namespace`` sends to machine ``number`` gets lost."""
    neighbour = ["ip", "-n", namespace, "neighbour"]
    target = [address(number), "dev", INTERFACE]
    if silent:
        run([*neighbour, "replace", *target, "lladdr", NOWHERE, "nud", "permanent"])
    else:
        run([*neighbour, "delete", *target])


def _port(number: int) -> str:
    return f"port{number}"
