# SPDX-License-Identifier: Apache-2.0
"""The program `discluster-simulator`: a simulated Discord to rehearse a fleet against."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from discluster.errors import DisclusterError
from discluster.notify import SystemdNotifier
from discluster.settings import load, override
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="discluster-simulator",
        description="A simulated Discord: HTTP API and gateway, with a control API that causes "
        "faults and judges what the clients did. When it listens it prints one line of JSON that "
        "says where, and stays until it is told to end.",
        epilog="Exit status: 0 ended by a signal, 69 an address is taken, 78 a setting is wrong.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with settings; default: none"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, its value in YAML; repeatable, and stronger than the file",
    )
    return parser


def read_settings(config: Path | None, assignments: Sequence[str]) -> SimulatorSettings:
    """Settings from the file, if any, and then from the command line."""
    base = SimulatorSettings() if config is None else load(config, SimulatorSettings)
    return override(base, assignments)


async def run(settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        listening = {
            "event": "listening",
            "api": simulator.api,
            "gateway": simulator.gateway_url,
            "control": simulator.control_url,
            "seed": settings.seed,
        }
        print(json.dumps(listening), flush=True)
        SystemdNotifier().ready()
        await simulator.serve(stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        uvloop.run(run(read_settings(options.config, options.set)))
    except DisclusterError as error:
        print(f"error: {error.render()}", file=sys.stderr)
        return error.exit_status
    return 0
