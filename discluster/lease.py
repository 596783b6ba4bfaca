# SPDX-License-Identifier: Apache-2.0
"""Until when this machine's clusters may run their shards, as CONTROL last said it.

All instants are seconds of CLOCK_BOOTTIME: one clock for all processes of a machine, which runs on
while the machine sleeps, and which nobody sets. It begins anew with each boot, so what is on disk
names the boot it belongs to.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import StateError
from discluster.files import read_if_there, write_atomically
from discluster.messages import Lease

BOOT_ID_VARIABLE: Final = "DISCLUSTER_BOOT_ID"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class StoredLease(msgspec.Struct, frozen=True, kw_only=True):
    """:class:`discluster.messages.Lease` on disk, with the boot in which its instants count.

    The rest is for CONTROL itself: ``length`` of MASTER's lease, seconds; ``confirmed``: when it
    sent what MASTER answered last; ``cut_off``: when it found that it is; ``heard``: when it heard
    MASTER last, after an orderly stop.
    """

    boot_id: str
    until: float | None
    then: Literal["stop", "keep"] = "stop"
    length: float | None = None
    confirmed: float | None = None
    cut_off: float | None = None
    heard: float | None = None

    @property
    def lease(self) -> Lease:
        return Lease(until=self.until, then=self.then)


def boottime() -> float:
    """CLOCK_BOOTTIME, seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id(environment: Mapping[str, str]) -> str:
    """What tells this boot of the machine from every other.

    Our units see nothing of ``/proc/sys`` (ProcSubset=pid), and are told by systemd's ``%b``.

    Raises:
        StateError: nobody tells.
    """
    if told := environment.get(BOOT_ID_VARIABLE):
        return told.replace("-", "")
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
    except OSError as error:
        raise StateError(
            f"{_BOOT_ID}: cannot be read: {error.strerror}",
            hint=f"the units set {BOOT_ID_VARIABLE} instead; is a part of theirs overridden?",
        ) from None


def holds(lease: Lease | None, now: float) -> bool:
    """Whether shards may run at ``now`` under ``lease``: it has not ended, or says ``keep``."""
    return lease is not None and (lease.then == "keep" or not is_over(lease, now))


def is_over(lease: Lease, now: float) -> bool:
    """Whether ``lease`` has ended at ``now``, whatever is to be done then."""
    return lease.until is not None and now >= lease.until


def write_lease(path: Path, stored: StoredLease) -> None:
    """Replaces ``path``; not on the disk when this returns: after a power cut it is void anyway.

    Raises:
        StateError: it cannot be written.
    """
    write_atomically(path, msgspec.json.encode(stored), durable=False)


def read_lease(path: Path, *, boot_id: str) -> Lease | None:
    """What CONTROL said last in this boot of the machine; None if nothing, or of another boot. It
    may have ended.

    Raises:
        StateError: it is there and cannot be read.
    """
    stored = read_stored(path, boot_id=boot_id)
    return stored.lease if stored is not None else None


def read_stored(path: Path, *, boot_id: str) -> StoredLease | None:
    """Like :func:`read_lease`, with all that is there."""
    text = read_if_there(path)
    if text is None:
        return None
    try:
        stored = msgspec.json.decode(text, type=StoredLease)
    except DECODE_ERRORS as error:
        raise StateError(
            f"{path}: not a lease: {reason_of(error)}",
            hint="CONTROL writes it anew as soon as it runs; it can be removed",
        ) from None
    return stored if stored.boot_id == boot_id else None
