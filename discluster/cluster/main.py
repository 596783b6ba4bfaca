# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``discluster-cluster``."""

import argparse
import asyncio
import gc
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from discluster import __version__, logs
from discluster.clock import SystemClock
from discluster.cluster.daemon import ClusterDaemon
from discluster.cluster.environment import use_virtual_environment
from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.handlers.loading import load_handler
from discluster.cluster.lease import ClusterLease
from discluster.cluster.settings import ClusterSettings
from discluster.cluster.stored import Stored
from discluster.documents import read_value
from discluster.errors import DisclusterError
from discluster.gateway.failing import HandlerFailures
from discluster.gateway.identity import Identity
from discluster.gateway.intents import intent_bits
from discluster.gateway.transport import AiohttpTransport
from discluster.lease import boot_id, boottime, read_lease
from discluster.notify import SystemdNotifier
from discluster.plan import ClusterId
from discluster.secret import read_token
from discluster.service import no_core_dumps, report_error, run_service
from discluster.sessions import SessionFile
from discluster.settings import load

_COLLECTION_AFTER: Final = 20_000  # objects; Python itself looks after 700


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="discluster-cluster",
        description="Runs the shards of one cluster and hands their events to a packet handler."
        " Started by CONTROL as discluster-cluster@N.service.",
        epilog="Exit status: 0 stopped; 74 state on disk; 75 the handler failed at an event and"
        " 'on_handler_error' is 'fatal'; 78 settings, handler or bot token.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/discluster/cluster.yaml"),
        help="settings file (default: %(default)s)",
    )
    parser.add_argument("cluster", type=_number, metavar="N", help="number of the cluster")
    return parser


def _number(text: str) -> int:
    try:
        return int(read_value(int(text), ClusterId, what="N"))
    except (ValueError, DisclusterError):
        raise argparse.ArgumentTypeError("a cluster's number is 0 to 999999") from None


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        settings = load(arguments.config, ClusterSettings)
    except DisclusterError as error:
        return report_error(error)
    logs.set_up(f"discluster-cluster@{arguments.cluster}", settings.log_level)
    no_core_dumps()
    _collect_rarely()
    return run_service(lambda stop: _serve(settings, arguments.cluster, stop))


def _collect_rarely() -> None:
    """Of what the event path makes, thousands are alive at a time and none is part of a cycle; what
    was imported stays anyway. To look through either for garbage took a twentieth of the CPU time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECTION_AFTER)


async def _serve(settings: ClusterSettings, cluster: int, stop: asyncio.Event) -> None:
    identity = Identity(
        token=read_token(os.environ),
        intents=intent_bits(settings.intents),
        compression=settings.compression,
        large_threshold=settings.large_threshold,
    )
    if settings.virtual_environment is not None:
        use_virtual_environment(Path(settings.virtual_environment))
    clock, rng = SystemClock(), random.Random()
    surroundings = Surroundings(
        settings=settings,
        cluster=cluster,
        token=identity.token,
        environ=os.environ,
        clock=clock,
        rng=rng,
    )
    handler = load_handler(settings.handler, surroundings)
    sessions = SessionFile(settings.session_file(cluster))
    async with AiohttpTransport() as transport:
        daemon = ClusterDaemon(
            cluster=cluster,
            stored=Stored(
                assignment=settings.assignment_file(cluster),
                lease=lambda: read_lease(settings.lease_file, boot_id=boot_id(os.environ)),
            ),
            lease=ClusterLease(boottime=boottime),
            control_socket=settings.control_socket,
            identity=identity,
            handler=handler,
            failures=HandlerFailures(
                clock=clock, reaction=settings.on_handler_error, tries=settings.handler_tries
            ),
            handler_name=settings.handler,
            sessions=sessions,
            transport=transport,
            clock=clock,
            rng=rng,
            notifier=SystemdNotifier(),
            stall_limit=settings.stall_limit,
            unacknowledged=settings.unacknowledged,
            flush_limit=settings.flush_limit,
        )
        await daemon.run(stop)


if __name__ == "__main__":
    sys.exit(main())
