# SPDX-License-Identifier: Apache-2.0
"""What MASTER keeps of the certificates that it made, and whose do not count any more.

``register.json`` is what ``disclusterctl ca status`` shows; hosts tell it anew when it is lost.
``revoked.json`` keeps hosts out: without it MASTER does not start.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from discluster.certificates import Certificate
from discluster.clock import DAY
from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import StateError
from discluster.files import read_if_there, write_atomically
from discluster.master.access.rotation import HostRecord

log = logging.getLogger(__name__)

# Beyond the longest life of a certificate: nothing that was revoked is valid any more.
_REMEMBERED: Final = 400 * DAY


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    """``began``: when the rotation under way did, wall clock; ``left_behind``: hosts that it does
    not wait for.
    """

    hosts: dict[str, HostRecord] = {}
    began: float | None = None
    left_behind: frozenset[str] = frozenset()


class Register:
    """By host name. ``save`` writes what changed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "register.json"
        self._written = self._stored = self._load()

    @property
    def hosts(self) -> Mapping[str, HostRecord]:
        return self._stored.hosts

    @property
    def began(self) -> float | None:
        return self._stored.began

    @property
    def left_behind(self) -> frozenset[str]:
        return self._stored.left_behind

    def note(
        self, host: str, certificate: Certificate, trusts: tuple[str, ...] | None = None
    ) -> None:
        """``host`` has this now. ``trusts``: None if that is what it was."""
        before = self.hosts.get(host)
        if trusts is None:
            trusts = before.trusts if before is not None else ()
        record = HostRecord(certificate=certificate, trusts=trusts)
        if record != before:
            self._change(hosts={**self.hosts, host: record})

    def forget(self, host: str) -> None:
        if host in self.hosts:
            hosts = {name: record for name, record in self.hosts.items() if name != host}
            self._change(hosts=hosts, left_behind=self.left_behind - {host})

    def rotation(self, began: float | None, left_behind: frozenset[str] = frozenset()) -> None:
        """One begins, goes on without these hosts, or is over (None)."""
        self._change(began=began, left_behind=left_behind)

    def save(self) -> None:
        """Raises StateError."""
        if self._stored != self._written:
            write_atomically(self._path, msgspec.json.encode(self._stored), mode=0o600)
            self._written = self._stored

    def _change(self, **changes: object) -> None:
        self._stored = msgspec.structs.replace(self._stored, **changes)

    def _load(self) -> _Stored:
        text = read_if_there(self._path)
        try:
            return msgspec.json.decode(text, type=_Stored) if text is not None else _Stored()
        except DECODE_ERRORS as error:
            log.warning("%s cannot be read, and begins anew: %s", self._path, reason_of(error))
            return _Stored()


class Revocations:
    """Host -> the instant, whole seconds of the wall clock, until which its certificates are void.

    Not by serial: so it also meets certificates that MASTER, after the loss of its files, knows
    nothing of.
    """

    def __init__(self, directory: Path, *, now: float) -> None:
        """Raises StateError: the file is damaged."""
        self._path = directory / "revoked.json"
        text = read_if_there(self._path)
        try:
            stored = msgspec.json.decode(text, type=dict[str, float]) if text is not None else {}
        except DECODE_ERRORS as error:
            raise StateError(
                f"{self._path}: cannot be read: {reason_of(error)}",
                hint="restore it from a backup; without it hosts that were revoked or removed are"
                " let in again, unless 'disclusterctl ca rotate' follows",
            ) from None
        self._until = {h: until for h, until in stored.items() if until > now - _REMEMBERED}

    @property
    def until(self) -> dict[str, float]:
        return self._until

    def revoke(self, host: str, now: float) -> None:
        """All that was made for it so far is void; on disk when this returns.

        Raises:
            StateError: it cannot be written; then nothing was revoked.
        """
        until = self._until | {host: max(math.floor(now), self._until.get(host, 0.0))}
        write_atomically(self._path, msgspec.json.encode(until), mode=0o600)
        self._until = until

    def issue_at(self, host: str, now: float) -> float:
        """When a certificate for it that is made ``now`` must say that it was, so that it counts:
        also when MASTER's clock was set back since.
        """
        return max(now, self._until.get(host, 0.0) + 1)
