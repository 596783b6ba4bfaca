# SPDX-License-Identifier: Apache-2.0
"""Logging: one sentence with structured fields, to the journal where there is one.

``log.info("sentence", extra={"SHARD": 3})`` becomes a journal entry with the field ``SHARD=3``, so
that ``journalctl SHARD=3`` finds it. Without a journal it is a line on standard error.
"""

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Final

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
FIELDS: Final = (
    *("HOST", "CLUSTER", "SHARD", "GENERATION", "UNIT", "STEP", "EVENT", "SEQ"),
    *("OPERATOR", "ROLE", "ADDRESS", "CALLER_UID", "CALL", "OUTCOME", "BODY"),
)
_PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


class JournalHandler(logging.Handler):
    """Writes to the journal's native socket (systemd: Native Journal Protocol)."""

    def __init__(self, identifier: str, path: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._identifier = identifier
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.sendto(journal_datagram(self._identifier, record, self), self._path)
        except OSError:
            # A journal that restarts, or a full queue: standard error goes to the journal as well.
            print(record.getMessage(), file=sys.stderr)  # noqa: T201
        except Exception:
            # A sentence that does not format must not end the program that says it.
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def journal_datagram(identifier: str, record: logging.LogRecord, handler: logging.Handler) -> bytes:
    """The record in the journal's native form; values with newlines carry their length."""
    fields: dict[str, str] = {
        "MESSAGE": handler.format(record),
        "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": identifier,
        "LOGGER": record.name,
    }
    for name in FIELDS:
        value = getattr(record, name, None)
        if value is not None:
            fields[name] = str(value)
    return b"".join(
        _field(name, value.encode(errors="backslashreplace")) for name, value in fields.items()
    )


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


class LineFormatter(logging.Formatter):
    """``time level sentence`` with the fields that the sentence may lack, for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


def set_up(identifier: str, level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Sends all logging to the journal if systemd connected us to it, else to standard error."""
    handler: logging.Handler
    if environ.get("JOURNAL_STREAM") and os.path.exists(JOURNAL_SOCKET):  # noqa: PTH110
        handler = JournalHandler(identifier)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    # aiohttp logs each request; our own sentences say what matters.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """The least severity that is logged from now on."""
    logging.getLogger().setLevel(level.upper())
