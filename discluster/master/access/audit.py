# SPDX-License-Identifier: Apache-2.0
"""The audit log: who changed what, from where, and what came of it.

``audit.jsonl`` and ``audit.old.jsonl``, like events. A call that changes something is there, and on
the disk itself, before it is carried out: what cannot be recorded is not done.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from discluster.clock import Clock
from discluster.errors import StateError
from discluster.master.access.callers import Caller
from discluster.master.records.linefiles import LineFiles
from discluster.master.records.shelf import Shelf
from discluster.operators import AuditEntry, AuditPage, AuditQuery, Outcome

log = logging.getLogger(__name__)

AUDIT: Final = "audit"


class AuditLog:
    """At least half of ``keep`` lines; a call that was carried out takes two."""

    def __init__(self, directory: Path, *, keep: int, clock: Clock) -> None:
        """Takes up what is on disk.

        Raises:
            StateError: a file is there and cannot be read.
        """
        # Whatever severity log_level asks for: the journal is what nobody can write full from afar.
        log.setLevel(logging.INFO)
        half = max(2, keep // 2)
        self._files = LineFiles(directory, "audit", AuditEntry, lines=half)
        self._clock = clock
        stored, torn = self._files.read()
        self._number = max((entry.number for entry in stored), default=0)
        self._calls = Shelf(over(stored), keep=2 * half)
        if torn:
            log.warning("lost %d torn lines of the audit log %s", torn, self._files)

    def begin(self, caller: Caller, verb: str, path: str, body: dict[str, Any]) -> AuditEntry:
        """Records that ``caller`` is about to change something.

        Raises:
            StateError: it cannot be recorded, so it must not be done.
        """
        entry = self._entry("begun", caller, verb, path, body)
        try:
            self._files.append(entry, durable=True)
        except OSError as error:
            self._files.close()
            told = f"{self._files}: the audit log cannot be written: {error.strerror or error}"
            log.error("%s; refused %s %s of %s", told, verb, path, caller, extra=_fields(entry))
            raise StateError(
                f"{told}; nothing was done",
                hint="make room on MASTER's disk, or mend it, then try again",
                code=AUDIT,
            ) from None
        return entry

    def end(self, begun: AuditEntry, outcome: Outcome, told: str | None = None) -> None:
        """Records what came of it."""
        self._close_call(
            msgspec.structs.replace(
                begun, number=self._next(), at=self._clock.wall(), outcome=outcome, told=told
            )
        )

    def refuse(self, caller: Caller, verb: str, path: str, body: dict[str, Any], told: str) -> None:
        """Records what was not even begun, and why."""
        entry = self._entry("refused", caller, verb, path, body)
        self._close_call(msgspec.structs.replace(entry, told=told))

    def page(self, query: AuditQuery) -> AuditPage:
        """What is there of what was asked for, at most :data:`shelf.PAGE` calls."""
        page, upto = self._calls.page(query, lambda entry: query.who in (None, entry.who))
        return AuditPage(entries=page, upto=upto, newest=self._calls.newest)

    async def wait_beyond(self, number: int) -> None:
        """Returns when there are calls after ``number``, or when no more will come."""
        await self._calls.wait_beyond(number)

    def close(self) -> None:
        """Ends waiting and closes the file."""
        self._calls.close()
        self._files.close()

    def _entry(
        self, outcome: Outcome, caller: Caller, verb: str, path: str, body: dict[str, Any]
    ) -> AuditEntry:
        number = self._next()
        return AuditEntry(
            number=number,
            call=number,
            at=self._clock.wall(),
            outcome=outcome,
            who=caller.name,
            role=caller.role,
            how=caller.how,
            verb=verb,
            path=path,
            address=caller.address,
            uid=caller.uid,
            pid=caller.pid,
            body=body,
        )

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _close_call(self, entry: AuditEntry) -> None:
        told = f": {entry.told}" if entry.told else ""
        where = f"from {entry.address}" if entry.address else f"process {entry.pid}"
        log.info(
            "%s (%s, %s, %s): %s %s %s%s",
            *(entry.who, entry.role, entry.how, where),
            *(entry.verb, entry.path, entry.outcome, told),
            extra=_fields(entry),
        )
        try:
            self._files.append(entry)
        except OSError as error:
            # It is done; what is left is to say so. After a restart it counts as unknown.
            self._files.close()
            log.error("%s: cannot be written: %s", self._files, error.strerror or error)
        self._calls.put(entry)


def over(stored: Iterable[AuditEntry]) -> list[AuditEntry]:
    """The calls that are over out of the lines on disk. Of one that never ended nobody knows what
    came of it.
    """
    lines = list(stored)
    ended = {entry.call for entry in lines if entry.outcome != "begun"}
    return [
        msgspec.structs.replace(entry, outcome="unknown") if entry.outcome == "begun" else entry
        for entry in lines
        if entry.outcome != "begun" or entry.call not in ended
    ]


def _fields(entry: AuditEntry) -> dict[str, object]:
    """For the journal: ``journalctl OPERATOR=alice``."""
    return {
        "OPERATOR": entry.who,
        "ROLE": entry.role,
        "ADDRESS": entry.address,
        "CALLER_UID": entry.uid,
        "CALL": f"{entry.verb} {entry.path}",
        "OUTCOME": entry.outcome,
        "BODY": msgspec.json.encode(entry.body).decode(),
    }
