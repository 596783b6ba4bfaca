# SPDX-License-Identifier: Apache-2.0
"""MASTER's HTTP interface for operators: any bytes, from who may connect there."""

import datetime
from pathlib import Path

from hypothesis import strategies as st

from discluster import console, orders
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.tokens import TokenDesk
from discluster.master.api.operators import OperatorApi
from discluster.master.store import MasterStore
from tests.clock import ManualClock
from tests.fuzz import https, masters, shapes
from tests.fuzz.targets.machine_api import _authority, requests
from tests.unit.master.fakes import Running
from tests.unit.master.fleets import report

LONGEST = 8 * 1024
_NOW = datetime.datetime.fromtimestamp(ManualClock().wall(), datetime.UTC)
_POSTED = {
    "/v1/orders": (
        *(orders.Rebalance, orders.Drain, orders.Undrain, orders.RemoveHost, orders.ClusterSize),
        *(orders.Reload, orders.Rollback),
    ),
    "/v1/tokens": (console.TokenRequest,),
    "/v1/identify/resume": (console.ResumeRequest,),
    "/v1/rolling": (console.RollingRequest,),
    "/v1/rolling/change": (console.RollingChange,),
    "/v1/restart": (console.RestartRequest,),
    "/v1/restart/progress": (console.RestartAnswer,),
}
_READ = (
    *("/v1/status", "/v1/plan", "/v1/diff", "/v1/plan/alpha", "/v1/history", "/v1/history/1"),
    *("/v1/history/999999999999999999", "/v1/moves", "/v1/events", "/v1/identify", "/v1/rolling"),
    *("/v1/events?after=-1", "/v1/events?last=99999999999999999999", "/v1/events?wait=nan"),
    *("/v1/events?since=inf&after=1", "/v1/events?after=%ed%a0%80", "/v1/events?host=%1b[2J"),
)


def target(data: bytes) -> None:
    with masters.scratch() as directory, masters.quiet():
        masters.run(_scene(directory, data))


async def _scene(directory: Path, data: bytes) -> None:
    async with masters.master(directory) as running:
        alpha = running.connect("alpha")
        await running.after(1)
        alpha.say(report(1, [0, 1]))
        await running.after(1)
        answered = await https.exchange(_api(directory, running).application(), data)
        assert all(status < 500 for status in https.statuses(answered)), answered
        assert b"Traceback" not in answered
        await running.after(1)
        store = MasterStore(directory)
        assert store.load() == running.master.fleet
        store.orders()


def _api(directory: Path, running: Running) -> OperatorApi:
    (directory / "master.yaml").write_text("{}")
    return OperatorApi(
        daemon=running.master,
        authority=_authority(),
        tokens=TokenDesk(directory / "tokens.json"),
        accounts=Accounts(directory / "operators.json"),
        audit=AuditLog(directory, keep=100, clock=running.clock),
        events=running.events,
        settings_file=directory / "master.yaml",
        public_url="https://master.example:7443",
        login_life=7,
        clock=running.clock,
    )


def inputs() -> st.SearchStrategy[bytes]:
    reading = requests(st.sampled_from(_READ), st.just(b""))
    posting = [
        requests(st.just(path), shapes.damaged(shapes.as_json(shapes.any_of(*kinds, oddness=6))))
        for path, kinds in _POSTED.items()
    ]
    return st.one_of(reading, *posting)
