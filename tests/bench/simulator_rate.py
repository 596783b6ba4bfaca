# SPDX-License-Identifier: Apache-2.0
"""The top rate of the simulator: events per second of one process, as a Markdown table.

`python -m tests.bench.simulator_rate`: the simulator runs on one core, a raw client that only
counts WebSocket frames on another, so that what is measured is the simulator. For each row it is
asked for more events than it can make; what arrives within the window counts. Where the events per
second are well below those per CPU-second, other programs had the core, or the reader's.

What bounds it: without compression, a template's rendering, one header and the copy into the
socket; a write carries many events at these rates. zstd adds a block for each event. zlib at level
6 with a sync flush for each event, as Discord does it, cannot be helped: deflate searches its hash
chains and ends a block for a few hundred bytes each time. Bursts (`discluster.simulator.burst`)
pay for it before a measurement begins.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from discluster.simulator.client import SimulatorClient
from discluster.simulator.frames import Opcode, frame, unmask
from discluster.simulator.settings import DEFAULT_TOKEN
from tests.bench.machine import this_machine

SCHEMES = (None, "zstd-stream", "zlib-stream")
ROOT = Path(__file__).resolve().parents[2]
MASK = b"\x00\x00\x00\x00"
INTENTS = 53_608_447
GUILDS = 100  # of each connection
# Events per second to ask for, shared by the connections: more than a process makes, but not by
# much, since what it makes and cannot send costs time as well.
EXCESS = {None: 450_000, "zstd-stream": 250_000, "zlib-stream": 125_000}
SETTINGS = (
    "events_per_second=0",
    "identify_interval=0",
    "max_concurrency=1000",
    "session_start_total=100000",
    "replay_events=2000000",
    "sent_log=1000",
    "zlib_level=6",
)


@dataclass(frozen=True)
class Row:
    """A measurement: events per second of time and of the simulator's processor."""

    scheme: str
    connections: int
    per_second: float
    per_cpu_second: float
    megabytes: float


class Reader:
    """Raw connections: they identify, and then count frames and bytes."""

    def __init__(self, gateway: str, connections: int, scheme: str | None) -> None:
        self._where = urlsplit(gateway)
        self._query = "v=10&encoding=json" + (f"&compress={scheme}" if scheme else "")
        self._selector = selectors.DefaultSelector()
        self._skip: dict[int, int] = {}
        self._rest: dict[int, bytes] = {}
        self.frames = 0
        self.bytes = 0
        self._sockets = [self._connect((n, connections)) for n in range(connections)]

    def _connect(self, shard: tuple[int, int]) -> socket.socket:
        sock = socket.create_connection((self._where.hostname, self._where.port))
        sock.sendall(
            f"GET /?{self._query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        while sock.recv(1, socket.MSG_PEEK) and not _take_head(sock):
            pass
        identify = {"token": DEFAULT_TOKEN, "intents": INTENTS, "properties": {}, "shard": shard}
        sock.sendall(_masked(json.dumps({"op": 2, "d": identify}).encode()))
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)
        self._skip[sock.fileno()], self._rest[sock.fileno()] = 0, b""
        return sock

    def read_until(self, frames: int, limit: float = 30.0) -> None:
        """Read until so many frames came in all; TimeoutError after ``limit`` seconds."""
        self.read(limit, enough=frames)
        if self.frames < frames:
            raise TimeoutError(f"{self.frames} of {frames} frames within {limit:g} s")

    def read(self, seconds: float, enough: float = math.inf) -> None:
        """Read whatever comes, for so long, or until there were ``enough`` frames in all."""
        end = time.monotonic() + seconds
        while self.frames < enough and (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                data = sock.recv(1 << 20)
                if not data:
                    raise ConnectionError("the simulator closed a connection")
                self.bytes += len(data)
                self._count(key.fd, data)

    def _count(self, fd: int, data: bytes) -> None:
        """Skip from header to header."""
        data = self._rest[fd] + data
        at, size = self._skip[fd], len(data)
        while at + 10 <= size:
            length = data[at + 1]
            if length == 126:
                at += 4 + (data[at + 2] << 8 | data[at + 3])
            elif length == 127:
                at += 10 + int.from_bytes(data[at + 2 : at + 10], "big")
            else:
                at += 2 + length
            self.frames += 1
        # A header may be cut: keep what begins the next frame.
        self._rest[fd] = data[at:]
        self._skip[fd] = max(0, at - size)

    def close(self) -> None:
        """Drop all connections."""
        self._selector.close()
        for sock in self._sockets:
            sock.close()


def _take_head(sock: socket.socket) -> bool:
    """Take the answer to the upgrade, and nothing of what follows."""
    seen = sock.recv(4096, socket.MSG_PEEK)
    end = seen.find(b"\r\n\r\n")
    if end >= 0:
        sock.recv(end + 4)
    return end >= 0


def _masked(payload: bytes) -> bytes:
    whole = bytearray(frame(Opcode.TEXT, payload))
    whole[1] |= 0x80
    head = len(whole) - len(payload)
    return bytes(whole[:head]) + MASK + unmask(payload, MASK)


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(control: str, rate: float) -> None:
    async def ask() -> None:
        async with SimulatorClient(control) as client:
            await client.stream(rate)

    asyncio.run(ask())


def measure(
    scheme: str | None, connections: int, seconds: float, core: int, total: float | None = None
) -> Row:
    """One row, with a simulator of its own. `total`: events per second to ask for."""
    command = [sys.executable, "-m", "discluster.simulator"]
    for setting in (*SETTINGS, f"shards={connections}", f"guilds={GUILDS * connections}"):
        command += ["--set", setting]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            where = json.loads(process.stdout.readline())
            os.sched_setaffinity(process.pid, {core})
            reader = Reader(where["gateway"], connections, scheme)
            reader.read_until(connections * (2 + GUILDS))  # HELLO, READY and the guilds
            _ask(where["control"], (total or EXCESS[scheme]) / connections)
            reader.read_until(reader.frames + connections)
            reader.read(1.0)
            frames, sent, cpu, begin = reader.frames, reader.bytes, _cpu(process.pid), time.time()
            reader.read(seconds)
            elapsed, cpu = time.time() - begin, _cpu(process.pid) - cpu
            events, size = reader.frames - frames, reader.bytes - sent
            reader.close()
        finally:
            process.terminate()
    return Row(
        scheme=scheme or "none",
        connections=connections,
        per_second=events / elapsed,
        per_cpu_second=events / cpu,
        megabytes=size / elapsed / 1e6,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| compression | connections | events/s | events per CPU-second | MB/s on the wire |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.scheme} | {row.connections} | {row.per_second:,.0f} | {row.per_cpu_second:,.0f} "
        f"| {row.megabytes:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def page(rows: Sequence[Row]) -> str:
    """The table with its method, for docs/."""
    method = (__doc__ or "").partition("\n\n")[2].strip()
    machine = this_machine(with_peers=False)
    return (
        "<!-- Written by `make bench-simulator`. -->\n\n# The simulator's own top rate\n\n"
        f"{machine.date}, commit {machine.commit}, {machine.cpu} with {machine.cores} cores, Python"
        f" {machine.python}.\n\n{table(rows)}\n\n{method}\n\nThe events are the"
        " simulator's live mix, 370 bytes on average, nine in ten of them presences;\nthose of"
        " docs/benchmarks.md are larger.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="simulator_rate", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="window of each row; %(default)s"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 64])
    parser.add_argument(
        "--total", type=float, help="events per second to ask for; default: more than it can make"
    )
    parser.add_argument("--output", type=Path, help="write the page here, too")
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    rows = [
        measure(scheme, connections, options.seconds, cores[0], options.total)
        for connections in options.connections
        for scheme in SCHEMES
    ]
    print(table(rows))
    if options.output is not None:
        options.output.write_text(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
