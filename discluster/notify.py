# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how we are (sd_notify), behind one small interface."""

import os
import time
import unicodedata
from collections.abc import Mapping
from typing import Protocol

import sdnotify


class Notifier(Protocol):
    """What a service tells its service manager."""

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two :meth:`watchdog` calls, or None where nobody watches."""
        ...

    def ready(self) -> None: ...

    def status(self, text: str) -> None: ...

    def watchdog(self) -> None: ...

    def reloading(self) -> None: ...

    def stopping(self) -> None: ...


class SystemdNotifier:
    """Speaks to ``$NOTIFY_SOCKET``; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        # sdnotify takes its socket from os.environ itself, and leaks one where there is none.
        self._sd = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        valid = microseconds.isdigit() and int(microseconds) > 0 and for_us
        self._interval = int(microseconds) / 2_000_000 if valid else None
        self._last_status = ""

    @property
    def watchdog_interval(self) -> float | None:
        return self._interval

    def close(self) -> None:
        """Nothing more will be told."""
        if self._sd is not None and self._sd.socket is not None:
            self._sd.socket.close()
        self._sd = None

    def _tell(self, words: str) -> None:
        if self._sd is not None:
            self._sd.notify(words)

    def ready(self) -> None:
        self._tell("READY=1")

    def status(self, text: str) -> None:
        if text != self._last_status:
            self._last_status = text
            self._tell(f"STATUS={fold(text)}")

    def watchdog(self) -> None:
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        # systemd 253 and later wait for READY with a stamp not older than this one.
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={stamp}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")


def fold(text: str) -> str:
    """``text`` as one line of ASCII: sdnotify silently drops a message that is not latin-1."""
    decomposed = unicodedata.normalize("NFKD", " ".join(text.split()))
    return decomposed.encode("ascii", "replace").decode("ascii")
