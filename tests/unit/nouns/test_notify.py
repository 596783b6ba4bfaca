# SPDX-License-Identifier: Apache-2.0
"""What systemd hears from us, on a real datagram socket."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from discluster.notify import SystemdNotifier, fold


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def heard(listener: socket.socket) -> str:
    return listener.recv(65536).decode()


def test_systemd_hears_every_kind_of_word(systemd: socket.socket) -> None:
    notifier = SystemdNotifier({})
    notifier.ready()
    assert heard(systemd) == "READY=1"
    notifier.status("all 16 shards ready")
    assert heard(systemd) == "STATUS=all 16 shards ready"
    notifier.watchdog()
    assert heard(systemd) == "WATCHDOG=1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", heard(systemd))
    assert found is not None
    assert before <= int(found[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.stopping()
    assert heard(systemd) == "STOPPING=1"
    notifier.close()
    notifier.ready()


def test_the_same_status_is_told_once_and_none_is_lost_for_its_letters(
    systemd: socket.socket,
) -> None:
    notifier = SystemdNotifier({})
    for text in ("Zürich\nREADY=0 → …☃", "Zürich\nREADY=0 → …☃", "next"):
        notifier.status(text)
    assert heard(systemd) == "STATUS=Zu?rich READY=0 ? ...?"
    assert heard(systemd) == "STATUS=next"
    notifier.close()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = SystemdNotifier({})
    notifier.ready()
    notifier.watchdog()
    assert notifier.watchdog_interval is None


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_systemd_asks(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], interval: float | None
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert SystemdNotifier(environ).watchdog_interval == interval


def test_a_status_is_one_line_of_ascii() -> None:
    assert fold(" a \n\t b ") == "a b"
    assert fold("ﬁne") == "fine"
