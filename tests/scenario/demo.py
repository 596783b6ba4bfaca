# SPDX-License-Identifier: Apache-2.0
"""``make demo``: a fleet on loopback against a simulated Discord, seen and then summed up.

Simulator, MASTER, one CONTROL with the embedded supervisor, and clusters with 16 shards in all.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import Record
from tests.scenario.loopback import LoopbackFleet
from tests.scenario.processes import environment
from tests.waiting import wait_for

SHARDS = 16
DROPPED = 5
HEARTBEAT = 4.0
LOOK = 4.0
"""Seconds that a person gets to look at the table."""


async def demo(keep: bool) -> int:
    """The whole story; returns the exit status."""
    fleet = LoopbackFleet()
    began = time.monotonic()
    try:
        say(f"starting a simulated Discord, MASTER, CONTROL and clusters for {SHARDS} shards ...")
        await fleet.start(
            shards=SHARDS,
            hosts={"alpha": 1.0},
            max_concurrency=SHARDS,
            simulator={
                "heartbeat_interval": HEARTBEAT,
                "events_per_second": 20,
                "guilds": 50 * SHARDS,
                "identify_interval": 5.0,
            },
        )
        await show_until(fleet, lambda: all_connected(fleet.simulator))
        await drop_one(fleet)
        if keep:
            await stay(fleet)
        return await sum_up(fleet.simulator, time.monotonic() - began)
    except (TimeoutError, RuntimeError, AssertionError) as error:
        print(await fleet.diagnostics(), file=sys.stderr)
        said = str(error) or type(error).__name__
        print(f"error: the demo failed: {said}", file=sys.stderr)
        return 1
    finally:
        await fleet.close()


async def all_connected(simulator: SimulatorClient) -> None:
    """Every shard is there, and was looked at."""
    await simulator.wait_for_connected(SHARDS, 30)
    await asyncio.sleep(LOOK)


async def drop_one(fleet: LoopbackFleet) -> None:
    """Cuts the connection of one shard; it resumes its session."""
    simulator = fleet.simulator
    mark = max(record.n for record in await simulator.ledger())
    say(f"cutting the connection of shard {DROPPED} ...")
    await simulator.drop(DROPPED)

    def resumed(record: Record) -> bool:
        return record.kind == "resumed" and record.shard == (DROPPED, SHARDS)

    async def watch() -> None:
        record = await simulator.wait_for_record(resumed, 30, since=mark)
        assert record.kind == "resumed"
        await asyncio.sleep(LOOK)

    await show_until(fleet, watch)
    (record,) = [r for r in await simulator.ledger(since=mark) if resumed(r)]
    say(f"shard {DROPPED} resumed its session; {getattr(record, 'replayed', 0)} events replayed")


async def show_until(fleet: LoopbackFleet, event: Callable[[], Awaitable[None]]) -> None:
    """The live status table in a terminal, else the table once, until ``event()`` is over."""
    if not sys.stdout.isatty():
        await event()
        print((await fleet.ctl("status")).stdout, flush=True)
        return
    table = await asyncio.create_subprocess_exec(
        *fleet.ctl_command("status", "--watch", "0.5"), env=environment({})
    )
    try:
        await event()
    finally:
        if table.returncode is None:
            table.send_signal(signal.SIGINT)
        await table.wait()


async def stay(fleet: LoopbackFleet) -> None:
    """Leaves everything running for a person to play with."""
    say("staying up until Ctrl-C; in another terminal:")
    print("  " + " ".join(fleet.ctl_command("status", "--watch")))
    print(f"  curl --unix-socket {fleet.directory}/simulator.sock http://simulator/summary")
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


async def sum_up(simulator: SimulatorClient, taken: float) -> int:
    """What the simulator saw; 0 if that is what must be."""
    await simulator.stream(0)
    # A heartbeat tells how far a shard got: after one from each, nothing is under way any more.
    await wait_for(lambda: _all_told(simulator), 5 * HEARTBEAT, what="every event is acknowledged")
    summary, wrong = await simulator.summary(), await simulator.judgement()
    lines = [
        ("shards connected", len([s for s in await simulator.shards() if s.state == "connected"])),
        ("identifies", summary.identifies),
        ("resumes", summary.resumed),
        ("events sent", summary.sent),
        ("events delivered", summary.acknowledged),
        ("events lost", summary.lost),
        ("breaches of Discord's rules", summary.violations + len(wrong)),
    ]
    say(f"after {taken:.0f} s the simulator's ledger says:")
    for name, number in lines:
        print(f"  {name:28} {number:>8,}")
    good = summary.identifies == SHARDS and summary.resumed == 1 and summary.lost == 0
    return 0 if good and not wrong and summary.acknowledged == summary.sent else 1


async def _all_told(simulator: SimulatorClient) -> bool:
    return (await simulator.summary()).unacknowledged == 0


def say(text: str) -> None:
    print(f"\n>>> {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C")
    arguments = parser.parse_args()
    try:
        return asyncio.run(demo(arguments.keep))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
