# SPDX-License-Identifier: Apache-2.0
"""A fleet to play with: ``python -m tests.lab.up`` (as root) boots it and waits for Ctrl-C."""

import argparse
import asyncio
import signal
import sys
import time

from tests.lab import deb
from tests.lab.cache import Cache, default_directory
from tests.lab.commands import LabError
from tests.lab.fleet import CONTROL_SOCKET, LabFleet
from tests.lab.machines import Lab
from tests.lab.prerequisites import reason_to_skip
from tests.lab.roots import package_root
from tests.lab.runs import Run
from tests.scenario.network import DISCORD, MASTER

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.up",
        description="Boots machines with the package of this work tree: MASTER, CONTROLs and a "
        "simulated Discord. Everything is gone after Ctrl-C.",
    )
    parser.add_argument("--hosts", type=int, default=3, choices=range(1, len(NAMES) + 1))
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--shards-per-cluster", type=int, default=4)
    parser.add_argument("--max-concurrency", type=int, default=4)
    return parser


async def serve(lab: Lab, arguments: argparse.Namespace) -> None:
    """Start the fleet, tell how to get at it, and wait for a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    fleet = LabFleet(lab)
    try:
        await fleet.start(
            shards=arguments.shards,
            hosts=dict.fromkeys(NAMES[: arguments.hosts], 1.0),
            max_concurrency=arguments.max_concurrency,
            shards_per_cluster=arguments.shards_per_cluster,
            simulator={"identify_interval": 5.0},
        )
        explain(lab)
        while not stop.is_set():
            await show(fleet)
            try:
                await asyncio.wait_for(stop.wait(), 10)
            except TimeoutError:
                pass  # time to look again
    finally:
        print("\nswitching off")
        await fleet.close()


def explain(lab: Lab) -> None:
    """How a person gets into each machine."""
    print("\nenter a machine (root):")
    for name, machine in lab.machines.items():
        print(f"  {name:8} {machine.address:11} nsenter -t {machine.leader} -m -u -i -n -p -C bash")
    socket = lab[DISCORD].root / CONTROL_SOCKET.lstrip("/")
    print(f"disclusterctl works on {MASTER}; journalctl -fu discluster-control on a host")
    print(f"the simulator: curl --unix-socket {socket} http://simulator/summary\n")


async def show(fleet: LabFleet) -> None:
    """The fleet's state as an operator sees it."""
    said = await fleet.ctl("status")
    print(time.strftime("%H:%M:%S"), said.stdout or said.stderr, sep="\n", flush=True)


def main() -> int:
    arguments = build_parser().parse_args()
    reason = reason_to_skip()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        with Cache(default_directory()) as cache, Run() as run:
            package = deb.build(cache)
            lower = package_root(cache, run, package.path, package.digest)
            print(f"package {package.version} ready after {time.monotonic() - started:.0f} s")
            with Lab(run, lower) as lab:
                asyncio.run(serve(lab, arguments))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
