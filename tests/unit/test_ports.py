# SPDX-License-Identifier: Apache-2.0
"""Ports for servers of tests that run side by side."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port
from tests.scenario.processes import REPOSITORY

ASKS = "from tests.ports import free_port\nprint(*(free_port() for _ in range(200)))\ninput()\n"


def test_kernel_gives_it_to_nobody_who_asks_for_any() -> None:
    """So a server that comes back finds it free: whoever connects has a port of its own as well."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert not int(given[0]) <= free_port() <= int(given[1])


def test_port_that_somebody_listens_on_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        others = {free_port() for _ in range(300)}
        assert len(others) > 100
        assert taken.getsockname()[1] not in others


def test_processes_share_no_port_while_they_live() -> None:
    ours = {free_port() for _ in range(200)}
    with subprocess.Popen(
        [sys.executable, "-c", ASKS],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        theirs = {int(word) for word in process.stdout.readline().split()}
        assert theirs
        assert not ours & theirs
        process.communicate("\n")
    assert process.returncode == 0
