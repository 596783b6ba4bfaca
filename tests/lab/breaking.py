# SPDX-License-Identifier: Apache-2.0
"""The network of lab machines, as scenarios break it: cables, and nftables in their namespaces."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, final

from tests.lab import delaying
from tests.lab.commands import run
from tests.lab.machines import Lab, Machine
from tests.lab.network import INTERFACE

DELAYED: Final = (7443, 7444, 8081)
"""Ports of MASTER, of witnesses and of Discord's gateway."""
PROXY_PORT: Final = 9
PROXY: Final = "/usr/local/bin/delaying.py"
PROXY_UNIT: Final = "lab-delay.service"


def filters(unheard: Collection[str], lost: float) -> str:
    """Drops what comes from these addresses, and ``lost`` of all packets either way."""
    dropped = [f"ip saddr {address} drop" for address in sorted(unheard)]
    lossy = [f"numgen random mod 1000 < {round(1000 * lost)} drop"] if lost else []
    # Named before it is deleted: the first time there is none.
    return "\n".join(
        (
            "table inet lab",
            "delete table inet lab",
            "table inet lab {",
            *_chain("input", "filter hook input priority 0", [*dropped, *_on("iifname", lossy)]),
            *_chain("output", "filter hook output priority 0", _on("oifname", lossy)),
            "}\n",
        )
    )


def detour(ports: Sequence[int], to: int) -> str:
    """Leads what programs other than root's send to these ports to a proxy on the machine."""
    rule = f"meta skuid != 0 tcp dport {{ {', '.join(map(str, ports))} }} redirect to :{to}"
    chain = _chain("output", "nat hook output priority -100", _on("oifname", [rule]))
    return "\n".join(("table ip lab_detour {", *chain, "}\n"))


def _chain(name: str, hook: str, rules: Sequence[str]) -> Sequence[str]:
    return (f"chain {name} {{", f"type {hook}; policy accept;", *rules, "}")


def _on(which: str, rules: Sequence[str]) -> list[str]:
    return [f'{which} "{INTERFACE}" {rule}' for rule in rules]


@final
class Breaking:
    """See tests.scenario.network.Network."""

    def __init__(self, lab: Lab, hosts: Callable[[], Sequence[str]]) -> None:
        self._lab = lab
        self._hosts = hosts
        self._unheard: dict[str, set[str]] = defaultdict(set)
        self._lost = 0.0

    async def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        await self._hears(other, one, False)
        if not one_way:
            await self._hears(one, other, False)

    async def mend(self, one: str, other: str) -> None:
        await self._hears(other, one, True)
        await self._hears(one, other, True)

    async def unplug(self, place: str) -> None:
        await asyncio.to_thread(self._lab[place].link, up=False)

    async def plug(self, place: str) -> None:
        await asyncio.to_thread(self._lab[place].link, up=True)

    async def lose(self, part: float) -> None:
        self._lost = part
        for host in self._hosts():
            await self._filter(host)

    async def delay(self, host: str, seconds: float) -> None:
        """All that the services of a host open from now on."""
        machine = self._lab[host]
        machine.write(PROXY, Path(delaying.__file__).read_text())
        unit = f"[Service]\nExecStart=/usr/bin/python3 {PROXY} {PROXY_PORT} {seconds}\n"
        machine.write(f"/etc/systemd/system/{PROXY_UNIT}", unit)
        await machine.arun("systemctl", "daemon-reload")
        await machine.arun("systemctl", "start", PROXY_UNIT)
        await asyncio.to_thread(_rules, machine, detour(DELAYED, PROXY_PORT))

    async def _hears(self, place: str, other: str, heard: bool) -> None:
        change = self._unheard[place].discard if heard else self._unheard[place].add
        change(self._lab[other].address)
        await self._filter(place)

    async def _filter(self, place: str) -> None:
        rules = filters(self._unheard[place], self._lost)
        await asyncio.to_thread(_rules, self._lab[place], rules)


def _rules(machine: Machine, rules: str) -> None:
    run(["ip", "netns", "exec", machine.namespace, "nft", "-f", "-"], stdin=rules)
