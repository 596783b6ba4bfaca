# SPDX-License-Identifier: Apache-2.0
"""A whole MASTER, and one of its hosts is hostile: what it says, a line of JSON for each message.

Whatever that is, MASTER goes on, answers operators, and can be started anew from its files; no
other host is cut, and the budget is no more than before.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from discluster.console import RestartRequest
from discluster.errors import DisclusterError, ProtocolError
from discluster.master.store import MasterStore
from discluster.messages import (
    AllowanceReport,
    Checkpoint,
    ClearanceCase,
    ControlToMaster,
    Goodbye,
    Hello,
    HostReport,
    Message,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    Ping,
    PlanRefused,
    Pong,
    control_to_master,
    decode,
    encode,
    master_to_control,
)
from tests.fuzz import masters, shapes
from tests.unit.master.fakes import Control, Running
from tests.unit.master.fleets import report

LONGEST = 8 * 1024
_KINDS = (Hello, HostReport, HostReport, HostReport, Checkpoint, AllowanceReport, PermitRequest)
_OTHERS = (PermitUsed, PermitReturned, PlanRefused, ClearanceCase, Goodbye)


def target(data: bytes) -> None:
    messages = []
    for line in data.splitlines()[:8]:
        try:
            messages.append(decode(control_to_master, line, peer="alpha"))
        except ProtocolError:
            return
    with masters.scratch() as directory, masters.quiet():
        masters.run(_scene(directory, messages))


async def _scene(directory: Path, messages: list[ControlToMaster]) -> None:
    async with masters.master(directory) as running:
        beta = running.connect("beta")
        await running.after(1)
        hostile = running.connect("alpha")
        await running.after(1)
        before = running.master.permits.overview()
        for message in messages:
            told = message.report if isinstance(message, Hello) else message
            if isinstance(told, HostReport) and running.master.objection("alpha", told):
                continue  # the link takes none of it
            if isinstance(message, Hello):
                hostile = Control(running.master, "alpha", message.report)
            elif not isinstance(message, (Ping, Pong)):
                hostile.say(message)
            await running.after(0.5)
            _check(running, directory)
        _order(running)
        _check(running, directory)
        after = running.master.permits.overview()
        assert (after.identify.remaining or 0) <= (before.identify.remaining or 1000)
        hostile.leave()
        for _ in range(8):  # longer than the lease
            beta.say(report(0))
            await running.after(5)
        _check(running, directory)
        assert not beta.closed
        for heard in beta.heard():
            assert decode(master_to_control, encode(heard), peer="MASTER") == heard


def _order(running: Running) -> None:
    """The operator restarts whatever there is."""
    fleet = running.master.fleet
    clusters = (
        [number for entry in fleet.hosts.values() for number in entry.clusters] if fleet else []
    )
    with contextlib.suppress(DisclusterError):
        running.master.restarts.at_once(RestartRequest(clusters=tuple(clusters)))


def _check(running: Running, directory: Path) -> None:
    daemon = running.master
    answers: list[Callable[[], Message]] = [daemon.status, daemon.permits.overview]
    for ask in answers:
        assert encode(ask())
    store = MasterStore(directory)
    assert store.load() == daemon.fleet
    store.orders()
    store.remembered()


def inputs() -> st.SearchStrategy[bytes]:
    message = st.one_of(
        shapes.any_of(*_KINDS, oddness=150), shapes.any_of(*_KINDS, *_OTHERS, oddness=40)
    )
    return st.lists(shapes.as_json(message), min_size=1, max_size=4).map(b"\n".join)
