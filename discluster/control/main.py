# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``discluster-control``."""

import argparse
import asyncio
import os
import random
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from discluster import __version__, documents, logs
from discluster.clock import Clock, SystemClock
from discluster.console import HostStatus
from discluster.control.addresses import Endpoint
from discluster.control.allowance import Purse, ShareFile
from discluster.control.calls import HostCalls
from discluster.control.clusters import ClusterConnection, ClusterHub, cluster_user
from discluster.control.daemon import ControlDaemon
from discluster.control.embedded import EmbeddedSupervisor
from discluster.control.identity import Identity
from discluster.control.joining import join
from discluster.control.leasing import Leasing
from discluster.control.link import MasterLink
from discluster.control.mastertime import MasterTime
from discluster.control.operators import operator_socket
from discluster.control.owner import become_owner_of
from discluster.control.panel import WitnessPanel
from discluster.control.permits import PermitDesk
from discluster.control.renewal import Renewing
from discluster.control.settings import ControlSettings, MasterUrl
from discluster.control.store import ControlStore
from discluster.control.supervisor import Supervisor
from discluster.control.systemd import SystemdSupervisor
from discluster.control.witness import Witness
from discluster.errors import ConfigurationError, DisclusterError
from discluster.files import read_if_there
from discluster.lease import boot_id, boottime
from discluster.messages import CallMessage, ClusterReport, MasterToControl
from discluster.notify import SystemdNotifier
from discluster.plan import HostName
from discluster.service import no_core_dumps, report_error, run_service
from discluster.settings import load


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="discluster-control",
        description="Runs this machine's clusters as MASTER plans them.",
        epilog="Exit status: 0 stopped; 69 systemd or a socket is not available; 74 state on disk;"
        " 76 protocol; 77 refused by MASTER; 78 settings.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/discluster/control.yaml"),
        help="settings file (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    join = commands.add_parser("join", help="join a fleet: get this machine's certificate")
    join.add_argument("master", help="https://HOST:PORT of MASTER")
    token = join.add_mutually_exclusive_group(required=True)
    token.add_argument("--token", help="from 'disclusterctl token create'; - reads standard input")
    token.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the same in a file, so that no list of processes shows it",
    )
    join.add_argument("--ca-fingerprint", required=True, help="sha256:… of MASTER's authority")
    join.add_argument("--host", help="name in the fleet (default: the machine's host name)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        settings = load(arguments.config, ControlSettings)
        host = _host_name(settings, arguments)
        identity = Identity(settings.own_state / "identity")
        if arguments.command == "join":
            token = _token(arguments)
            become_owner_of(settings.own_state)
            return _join(identity, arguments, host, token)
        identity.adopt_former_layout()
        if identity.joined:
            host = identity.host_name()
    except DisclusterError as error:
        return report_error(error)
    logs.set_up("discluster-control", settings.log_level)
    no_core_dumps()
    return run_service(lambda stop: _serve(settings, arguments.config, identity, host, stop))


def _host_name(settings: ControlSettings, arguments: argparse.Namespace) -> str:
    name = getattr(arguments, "host", None) or settings.host or socket.gethostname().lower()
    return str(documents.read_value(name, HostName, what="host name"))


def _join(identity: Identity, arguments: argparse.Namespace, host: str, token: str) -> int:
    # The token must not go over a connection that is not TLS.
    master = str(documents.read_value(arguments.master, MasterUrl, what="MASTER's address"))
    asyncio.run(
        join(
            identity,
            master=master,
            token=token,
            ca_fingerprint=arguments.ca_fingerprint,
            host=host,
            wall=SystemClock().wall,
        )
    )
    print(f"{host} joined the fleet of {arguments.master}")
    print("next: systemctl start discluster-control (restart it if it runs already)")
    return 0


def _token(arguments: argparse.Namespace) -> str:
    """The join token. Raises ConfigurationError."""
    if arguments.token_file is None:
        token = sys.stdin.readline() if arguments.token == "-" else arguments.token
        where = "standard input" if arguments.token == "-" else "--token"
    else:
        token, where = read_if_there(arguments.token_file) or "", arguments.token_file
    if not token.strip():
        raise ConfigurationError(
            f"{where}: there is no join token", hint="make one: disclusterctl token create"
        )
    return str(token.strip())


async def _serve(
    settings: ControlSettings, config: Path, identity: Identity, host: str, stop: asyncio.Event
) -> None:
    clock = SystemClock()
    notifier = SystemdNotifier()
    share = ShareFile(settings.own_state / "identify.json")
    permits = PermitDesk(
        clock=clock,
        interval=settings.identify_interval,
        purse=Purse(share.load(), save=share.save, clock=clock),
    )
    leasing = _leasing(settings, identity, host, clock)
    supervisor = _supervisor(settings, clock)
    daemon = ControlDaemon(
        host=host,
        store=ControlStore(Path(settings.state_directory)),
        supervisor=supervisor,
        permits=permits,
        leasing=leasing,
        clock=clock,
        notifier=notifier,
        checkpoint_interval=settings.checkpoint_interval,
    )
    witness = _witness(settings, identity, host, clock, leasing, daemon)
    renewing = Renewing(
        identity,
        on_change=witness.renew if witness is not None else lambda: None,
        clock=clock,
        rng=random.Random(),
    )
    hub, calls = _hub(settings, host, clock, supervisor, daemon)
    link = _link(settings, identity, host, clock, leasing, daemon, renewing, calls)

    def status() -> HostStatus:
        return structs.replace(daemon.status(), certificate=renewing.words())

    async with (
        operator_socket(settings.socket, status, calls.operator_asks),
        asyncio.TaskGroup() as tasks,
    ):
        beside = [tasks.create_task(part) for part in (renewing.run(), calls.run())]
        await daemon.run(hub=hub, link=link, stop=stop, witness=witness)
        for task in beside:
            task.cancel()


def _hub(
    settings: ControlSettings,
    host: str,
    clock: Clock,
    supervisor: Supervisor,
    daemon: ControlDaemon,
) -> tuple[ClusterHub, HostCalls]:
    def reported(report: ClusterReport, connection: ClusterConnection, introduces: bool) -> None:
        if introduces:
            calls.cluster_gone(report.cluster)
        daemon.cluster_reported(report, connection, introduces)

    def gone(cluster: int) -> None:
        calls.cluster_gone(cluster)
        daemon.cluster_gone(cluster)

    def called(connection: ClusterConnection, message: CallMessage) -> None:
        calls.cluster_said(connection, message)

    hub = ClusterHub(
        path=settings.clusters_socket,
        user=lambda: cluster_user(settings.supervisor),
        runs=supervisor.runs,
        on_report=reported,
        on_gone=gone,
        on_permit=daemon.permit_message,
        on_call=called,
    )
    calls = HostCalls(
        host=host,
        clusters=lambda: daemon.plan.clusters if daemon.plan is not None else (),
        connection=hub.connection,
        clock=clock,
    )
    return hub, calls


def _leasing(settings: ControlSettings, identity: Identity, host: str, clock: Clock) -> Leasing:
    return Leasing(
        host=host,
        file=settings.lease_file,
        length_file=settings.own_state / "lease.json",
        boot_id=boot_id(os.environ),
        boottime=boottime,
        clock=clock,
        when_isolated=settings.when_isolated,
        panel=WitnessPanel(identity, host=host, wall=clock.wall),
    )


def _link(
    settings: ControlSettings,
    identity: Identity,
    host: str,
    clock: Clock,
    leasing: Leasing,
    daemon: ControlDaemon,
    renewing: Renewing,
    calls: HostCalls,
) -> MasterLink:
    def connected(time: MasterTime) -> None:
        daemon.master_connected(time)
        renewing.connected(link.send)
        calls.master_connected(link.send_call)

    def lost() -> None:
        calls.master_lost()
        renewing.lost()
        daemon.master_lost()

    def said(message: MasterToControl) -> None:
        if not calls.master_said(message) and not renewing.said(message):
            daemon.master_said(message)

    link = MasterLink(
        url=lambda: _master_url(settings, identity, host),
        ssl_context=lambda: identity.ssl_context(host, now=clock.wall()),
        hello=daemon.hello,
        on_connected=connected,
        on_lost=lost,
        on_message=said,
        contact=leasing,
        clock=clock,
        rng=random.Random(),
        connect_timeout=settings.connect_timeout,
        longest_pause=settings.reconnect_maximum,
    )
    return link


def _witness(
    settings: ControlSettings,
    identity: Identity,
    host: str,
    clock: Clock,
    leasing: Leasing,
    daemon: ControlDaemon,
) -> Witness | None:
    if settings.witness_listen is None or not identity.joined:
        return None
    return Witness(
        listen=Endpoint.read(settings.witness_listen),
        announced=settings.witness_address,
        ssl_context=lambda: identity.witness_context(host, now=clock.wall()),
        admits=identity.admits,
        answer=leasing.answer,
        on_change=daemon.changed,
        clock=clock,
    )


def _master_url(settings: ControlSettings, identity: Identity, host: str) -> str:
    url = settings.master or identity.master_url()
    if url is None:
        raise ConfigurationError(
            "this machine has not joined a fleet",
            hint=f"on MASTER's machine run 'disclusterctl token create --host {host}', then run"
            " here, as root, the line that it prints",
        )
    return url.rstrip("/")


def _supervisor(settings: ControlSettings, clock: SystemClock) -> Supervisor:
    if settings.supervisor == "systemd":
        return SystemdSupervisor(clock=clock)
    # What systemd alone may tell its service must not leak to the children.
    private = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
    return EmbeddedSupervisor(
        command=(
            *(sys.executable, "-m", "discluster.cluster.main"),
            *("--config", settings.cluster_config),
        ),
        directory=settings.own_runtime,
        environment={k: v for k, v in os.environ.items() if k not in private},
        clock=clock,
        keep_on_close=settings.embedded_on_stop == "keep",
    )


if __name__ == "__main__":
    sys.exit(main())
