# SPDX-License-Identifier: Apache-2.0
"""What of a plan does not fit, and what would help, in words. Pure."""

from collections.abc import Mapping

from discluster.errors import ConfigurationError
from discluster.master.placement.capacity import HostNeed

_MOST_NAMES = 5


def misfits(
    shard_count: int, hosts: Mapping[str, HostNeed], planned: Mapping[str, int]
) -> tuple[str, ...]:
    """``planned``: how many shards each host gets."""
    notes = []
    if homeless := shard_count - sum(planned.values()):
        notes.append(
            f"{_shards(homeless)} {'fits' if homeless == 1 else 'fit'} on no host and"
            f" {'does' if homeless == 1 else 'do'} not run: {_obstacles(hosts, planned)};"
            f" {_help(hosts)}"
        )
    notes += [
        f"{host} {_empties(hosts[host])}, but keeps {_shards(planned[host])} that no other host can"
        f" take: {_obstacles(hosts, planned)}; {_help(hosts)}"
        for host in sorted(hosts)
        if hosts[host].empties and planned.get(host)
    ]
    return tuple(notes)


def nobody(hosts: Mapping[str, HostNeed]) -> ConfigurationError:
    """Why there can be no plan at all."""
    told = []
    if idle := [host for host, need in hosts.items() if need.empties and need.weight == 0]:
        told.append(f"{_names(idle)} {_has(idle)} weight 0")
    if drained := [host for host, need in hosts.items() if need.empties and host not in idle]:
        told.append(f"{_names(drained)} {_is(drained)} being drained")
    return ConfigurationError(
        f"no host can take a shard: {', '.join([*told, *_limits(hosts, {})]) or 'there is none'}",
        hint="give a host in master.yaml a weight above 0 and room in max_shards, or add one; lost"
        " hosts get their shards again when they are back",
    )


def _shards(number: int) -> str:
    return "1 shard" if number == 1 else f"{number} shards"


def _empties(need: HostNeed) -> str:
    return "is being drained" if need.state == "draining" else "has weight 0"


def _obstacles(hosts: Mapping[str, HostNeed], planned: Mapping[str, int]) -> str:
    """Why hosts take no more."""
    return ", ".join(_limits(hosts, planned)) or "there is no other host"


def _limits(hosts: Mapping[str, HostNeed], planned: Mapping[str, int]) -> list[str]:
    told = []
    full = [host for host, need in hosts.items() if _is_full(need, planned.get(host, 0))]
    if full:
        told.append(f"{_names(full)} {_is(full)} at max_shards")
    if silent := [h for h, n in hosts.items() if n.takes and not n.in_touch and h not in full]:
        told.append(f"{_names(silent)} {_is(silent)} out of touch")
    if lost := [host for host, need in hosts.items() if need.state == "lost"]:
        told.append(f"{_names(lost)} {_is(lost)} lost")
    return told


def _is(hosts: list[str]) -> str:
    return "is" if len(hosts) == 1 else "are"


def _has(hosts: list[str]) -> str:
    return "has" if len(hosts) == 1 else "have"


def _is_full(need: HostNeed, planned: int) -> bool:
    return need.takes and need.max_shards is not None and planned >= need.max_shards


def _help(hosts: Mapping[str, HostNeed]) -> str:
    limited = any(need.takes and need.max_shards is not None for need in hosts.values())
    return f"{'raise max_shards in master.yaml, or ' if limited else ''}add a host"


def _names(hosts: list[str]) -> str:
    named = sorted(hosts)
    if len(named) <= _MOST_NAMES:
        return ", ".join(named)
    return f"{', '.join(named[:_MOST_NAMES])} and {len(named) - _MOST_NAMES} more"
