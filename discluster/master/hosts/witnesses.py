# SPDX-License-Identifier: Apache-2.0
"""The panel: hosts that tell a CONTROL without MASTER whether they hear it. Pure.

A host may go by any panel that it was told since it last reported, so there are never more than two
that a host may go by: the panel changes only when every host that has shards has reported it.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from discluster.documents import satisfies
from discluster.messages import HostReport
from discluster.plan import Address, FleetPlan

LARGEST_PANEL: Final = 7


class _Told(msgspec.Struct, frozen=True):
    address: Address


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """``witnesses``: where each can be asked. ``before``: the ones that a host may still go by."""

    witnesses: dict[str, str]
    before: tuple[str, ...]


def panel_after(
    fleet: FleetPlan,
    reports: Mapping[str, HostReport],
    addresses: Mapping[str, str],
    *,
    owners: Collection[str],
    lost: Collection[str] = (),
) -> Panel:
    """The panel that the fleet's plan shall name. ``addresses``: where hosts can be asked, as far
    as they told this MASTER. ``owners``: hosts that may run shards. ``lost``: they are no
    witnesses.

    Members stay for as long as they are in the fleet; places are filled up by name.
    """
    names = tuple(sorted(fleet.witnesses))
    known = {**fleet.witnesses, **addresses}
    same = {name: known[name] for name in names}
    if not all(_goes_by(reports.get(host), names) for host in owners):
        return Panel(witnesses=same, before=fleet.panel_before)
    able = {name for name in known if name in fleet.hosts and name not in lost}
    kept = [name for name in names if name in able]
    chosen = (kept + sorted(able.difference(names)))[:LARGEST_PANEL]
    if sorted(chosen) == list(names):
        return Panel(witnesses=same, before=())
    return Panel(witnesses={name: known[name] for name in sorted(chosen)}, before=names)


def _goes_by(report: HostReport | None, panel: tuple[str, ...]) -> bool:
    return report is not None and tuple(sorted(report.panel)) == panel


def witness_address(told: str | None, seen: str | None) -> str | None:
    """ADDRESS:PORT of a host that ``told`` so, or only :PORT; ``seen``: where it connects from.
    None: it is no witness, or nobody could write it down.
    """
    if told is None:
        return None
    if told.startswith(":"):
        told = f"{_bracketed(seen)}{told}" if seen else ""
    return told if satisfies(_Told(told)) else None


def _bracketed(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else f"[{parsed}]"
    return str(parsed)
