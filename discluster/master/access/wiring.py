# SPDX-License-Identifier: Apache-2.0
"""Puts together what machines deal with, around MASTER's loop."""

from pathlib import Path

from discluster.clock import Clock
from discluster.master.access.authority import Authority
from discluster.master.access.certificates import CertificateDesk
from discluster.master.access.enrolment import Enrolment
from discluster.master.access.register import Register, Revocations
from discluster.master.access.tls import ServerTls
from discluster.master.access.tokens import TokenDesk
from discluster.master.daemon import MasterDaemon
from discluster.master.records.events import EventLog


def certificate_desk(
    daemon: MasterDaemon,
    *,
    directory: Path,
    authority: Authority,
    tls: ServerTls,
    events: EventLog,
    clock: Clock,
) -> CertificateDesk:
    """Wired to ``daemon``: whoever is removed from the fleet is revoked, and status tells.
    ``directory``: the authority's. Raises StateError.
    """
    desk = CertificateDesk(
        authority=authority,
        tls=tls,
        register=Register(directory),
        revocations=Revocations(directory, now=clock.wall()),
        events=events,
        clock=clock,
        life=lambda: certificate_life(daemon),
        known=daemon.orders.known,
        removed=daemon.orders.removed,
    )
    daemon.advisers.append(desk.troubles)
    daemon.orders.removers.append(desk.left)
    return desk


def enrolment(
    daemon: MasterDaemon,
    *,
    tokens: TokenDesk,
    certificates: CertificateDesk,
    events: EventLog,
    clock: Clock,
) -> Enrolment:
    """Who joins is let in again, if it was removed."""
    return Enrolment(
        tokens=tokens,
        certificates=certificates,
        readmit=daemon.orders.readmit,
        events=events,
        clock=clock,
    )


def certificate_life(daemon: MasterDaemon) -> float:
    """Of what is made now, seconds."""
    return daemon.orders.settings.certificate_life
