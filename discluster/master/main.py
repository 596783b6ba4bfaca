# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``discluster-master``."""

import argparse
import asyncio
import datetime
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from discluster import __version__, logs
from discluster.clock import SystemClock
from discluster.errors import DisclusterError
from discluster.lease import boottime
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.authority import Authority
from discluster.master.access.certificates import CertificateDesk
from discluster.master.access.tls import ServerTls
from discluster.master.access.tokens import TokenDesk
from discluster.master.access.wiring import certificate_desk, certificate_life, enrolment
from discluster.master.api.calls import CallRoutes
from discluster.master.api.certificates import CertificateRoutes
from discluster.master.api.machines import MachineApi
from discluster.master.api.operators import OperatorApi
from discluster.master.calls import FleetCalls
from discluster.master.daemon import MasterDaemon
from discluster.master.desk import DiscordDesk
from discluster.master.discord import GatewayBot, fetch_gateway_bot
from discluster.master.hosts.link import ControlLink
from discluster.master.listening import (
    for_machines,
    for_operators,
    known_operator,
    serve_machines,
    serve_operators,
)
from discluster.master.orders.ordering import edited_settings
from discluster.master.records.events import EventLog
from discluster.master.records.history import History
from discluster.master.settings import MasterSettings
from discluster.master.store import MasterStore
from discluster.notify import SystemdNotifier
from discluster.reception import Reception
from discluster.secret import read_token
from discluster.service import no_core_dumps, report_error, run_service
from discluster.settings import load


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="discluster-master",
        description="Balances the shards of a Discord bot over the machines of a fleet.",
        epilog="Exit status: 0 stopped; 69 an address is taken; 74 state on disk; 78 settings.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/discluster/master.yaml"),
        help="settings file (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    # A reload that comes before MASTER is there must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = load(arguments.config, MasterSettings)
    except DisclusterError as error:
        return report_error(error)
    logs.set_up("discluster-master", settings.log_level)
    no_core_dumps()
    return run_service(lambda stop: _serve(settings, arguments.config, stop))


async def _serve(settings: MasterSettings, config: Path, stop: asyncio.Event) -> None:
    clock, notifier = SystemClock(), SystemdNotifier()
    events = EventLog(settings.own_state, keep=settings.events_kept, clock=clock)
    daemon = _daemon(settings, events, clock, notifier)
    directory, names = settings.own_state / "ca", certificate_names(settings)
    authority = Authority(directory, now=datetime.datetime.now(datetime.UTC))
    tls = ServerTls(authority, names, life=lambda: certificate_life(daemon), clock=clock)
    certificates = certificate_desk(
        daemon, directory=directory, authority=authority, tls=tls, events=events, clock=clock
    )
    tokens = TokenDesk(settings.own_state / "tokens.json")
    door = for_machines(lambda told: events.record("master", told, severity="warning"))
    calls = FleetCalls(daemon, clock=clock)
    link = _link(daemon, certificates, calls, settings, clock, door)
    audit = AuditLog(settings.own_state, keep=settings.audit_kept, clock=clock)
    operators = OperatorApi(
        daemon=daemon,
        authority=authority,
        tokens=tokens,
        accounts=Accounts(settings.own_state / "operators.json"),
        audit=audit,
        events=events,
        settings_file=config,
        public_url=public_url(settings, names),
        login_life=settings.login_life,
        clock=clock,
        more=(*CertificateRoutes(certificates).routes(), *CallRoutes(calls).routes()),
    )
    joining = enrolment(
        daemon, tokens=tokens, certificates=certificates, events=events, clock=clock
    )
    over_tls = MachineApi(authority=authority, enrolment=joining, link=link).application()
    daemon.orders.followers.append(lambda taken: logs.set_level(taken.log_level))
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP, lambda: _reload(daemon, config, events, notifier)
    )
    async with AsyncExitStack() as stack:
        operators.attach(over_tls, known=partial(known_operator, door))
        await serve_machines(stack, door, over_tls, settings, lambda: tls.context)
        await serve_operators(stack, for_operators(), operators.application(), settings)
        # Before the interfaces end: whoever waits for events is answered then.
        stack.callback(events.close)
        stack.callback(audit.close)
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(part) for part in (certificates.run(), calls.run())]
            await daemon.run(stop)
            for task in beside:
                task.cancel()


def _link(
    daemon: MasterDaemon,
    certificates: CertificateDesk,
    calls: FleetCalls,
    settings: MasterSettings,
    clock: SystemClock,
    door: Reception,
) -> ControlLink:
    return ControlLink(
        daemon,
        certificates,
        calls,
        ping_interval=settings.ping_interval,
        lease=settings.lease,
        clock=clock,
        settle=door.settle,
    )


def _daemon(
    settings: MasterSettings, events: EventLog, clock: SystemClock, notifier: SystemdNotifier
) -> MasterDaemon:
    store = MasterStore(settings.own_state)
    return MasterDaemon(
        settings=settings,
        store=store,
        history=History(settings.own_state / "history", keep=settings.history, clock=clock),
        discord=DiscordDesk(
            settings=settings,
            store=store,
            fetch=lambda: _ask_discord(settings),
            events=events,
            clock=clock,
            rng=random.Random(),
        ),
        events=events,
        clock=clock,
        boottime=boottime,
        notifier=notifier,
    )


def _reload(
    daemon: MasterDaemon, config: Path, events: EventLog, notifier: SystemdNotifier
) -> None:
    """What SIGHUP does; what came of it is an event."""
    notifier.reloading()
    try:
        daemon.orders.reload(edited_settings(config))
    except DisclusterError as error:
        told = "; ".join(error.message.splitlines())
        events.record("order", f"the settings on disk are refused: {told}", severity="error")
    notifier.ready()


async def _ask_discord(settings: MasterSettings) -> GatewayBot:
    # Read at each call: the token can be mended while MASTER waits for it.
    return await fetch_gateway_bot(settings.discord_api, read_token(os.environ))


def certificate_names(settings: MasterSettings) -> list[str]:
    """Every name in MASTER's certificate: the operator's first."""
    own = [socket.gethostname().lower(), socket.getfqdn().lower()]
    return list(dict.fromkeys([*settings.names, *own, "localhost", "127.0.0.1", "::1"]))


def public_url(settings: MasterSettings, names: Sequence[str]) -> str:
    """What a new machine is told to dial."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    name = f"[{names[0]}]" if ":" in names[0] else names[0]
    return f"https://{name}:{settings.address[1]}"


if __name__ == "__main__":
    sys.exit(main())
