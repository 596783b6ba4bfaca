# SPDX-License-Identifier: Apache-2.0
"""What CONTROL left on disk for a cluster that cannot ask it."""

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.errors import StateError
from discluster.messages import Assignment, Held, Lease

log = logging.getLogger(__name__)


class Stored:
    """Reads it; what cannot be read is told in the journal once, and taken as not there."""

    def __init__(self, *, assignment: Path, lease: Callable[[], Lease | None]) -> None:
        """``lease``: reads the lease; raises StateError. ``assignment``: the file."""
        self._assignment = assignment
        self._lease = lease
        self._complaints: set[str] = set()

    def read(self) -> tuple[Assignment | None, Lease | None]:
        """The last assignment, and the lease under which it may be followed.

        CONTROL stores the assignments that a lease is about, then the lease. So the lease is read
        first: with it comes an assignment that is as new, or newer.
        """
        lease = self._read_lease()
        return self._read_assignment(), lease

    def _read_lease(self) -> Lease | None:
        try:
            return self._lease()
        except StateError as error:
            self._complain(error.render())
            return None

    def _read_assignment(self) -> Assignment | None:
        try:
            return msgspec.json.decode(self._assignment.read_bytes(), type=Held).assignment
        except FileNotFoundError:
            return None
        except (OSError, *DECODE_ERRORS) as error:
            self._complain(f"{self._assignment} cannot be used, waiting for CONTROL: {error}")
            return None

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            log.error("%s", text)
