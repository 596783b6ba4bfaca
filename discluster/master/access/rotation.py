# SPDX-License-Identifier: Apache-2.0
"""When a rotation of the authority goes a step further. Pure.

First every host learns to trust the next authority; only then are certificates made by it, so that
nobody meets one that it does not trust yet. Once all have such a certificate, the old authority is
not trusted any more.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import msgspec

from discluster.certificates import Certificate
from discluster.master.access.authority import Phase

Step = Literal["replace", "retire"]


class HostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has, as it told last or as it was given last. ``trusts``: ids of authorities."""

    certificate: Certificate
    trusts: tuple[str, ...] = ()


def next_step(
    phase: Phase,
    newest: str,
    hosts: Mapping[str, HostRecord | None],
    *,
    left_behind: Collection[str] = (),
) -> Step | None:
    """What is to be done now. ``hosts``: all that count, None where nothing is known of one.
    ``newest``: the id of the new authority. ``left_behind``: they are not waited for.
    """
    waits = any(host not in left_behind for host in lacking(phase, newest, hosts))
    if phase == "settled" or waits:
        return None
    return "replace" if phase == "announced" else "retire"


def lacking(phase: Phase, newest: str, hosts: Mapping[str, HostRecord | None]) -> Iterator[str]:
    """Hosts that do not have yet what the phase gives to them, by name; none when it is over."""
    for name, record in sorted(hosts.items()):
        if phase != "settled" and (record is None or not _has(phase, newest, record)):
            yield name


def _has(phase: Phase, newest: str, record: HostRecord) -> bool:
    if phase == "announced":
        return newest in record.trusts
    return record.certificate.authority == newest
