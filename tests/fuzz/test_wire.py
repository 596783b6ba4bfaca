# SPDX-License-Identifier: Apache-2.0
"""A host whose root means harm says to MASTER what no CONTROL of ours would."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.console import RestartRequest
from discluster.control.mastertime import MasterTime
from discluster.control.permits import PermitDesk
from discluster.errors import ProtocolError
from discluster.master.daemon import MasterDaemon
from discluster.master.hosts.plausible import LONGEST_JUMP
from discluster.master.records.events import LONGEST
from discluster.master.store import MasterStore
from discluster.messages import (
    Allowance,
    AllowanceReport,
    ClusterView,
    HostReport,
    Message,
    PermitUsed,
    PlanRefused,
    ShardView,
    cluster_to_control,
    control_to_master,
    decode,
    encode,
    master_to_control,
)
from discluster.plan import Session, is_sound
from tests.clock import ManualClock
from tests.fuzz import masters
from tests.fuzz.contract import check_error, within
from tests.unit.control.purses import full_purse
from tests.unit.master.fakes import Running
from tests.unit.master.fleets import report


def refused(message: dict[str, Any] | bytes) -> str:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    with within(cpu=5), pytest.raises(ProtocolError) as error:
        decode(control_to_master, data, peer="alpha")
    check_error(error.value, names="alpha")
    return error.value.message


def test_nesting_deeper_than_the_stack_is_an_error_of_the_protocol() -> None:
    assert "nested too deeply" in refused(b'{"type":"ping","number":1,"x":' + b"[" * 1_000_000)


@pytest.mark.parametrize("number", [-1, 2**63, 10**30, float("nan"), float("inf"), 1e300, "x"])
@pytest.mark.parametrize(
    "where",
    [
        *("plan_generation", "shard_count", "holding", "released", "cluster", "run", "memory"),
        *("shard", "seq", "events", "since"),
    ],
)
def test_number_that_cannot_be_is_refused_whole(where: str, number: object) -> None:
    """JSON has numbers of any size; MASTER's files, and its answers to operators, have not."""
    view: dict[str, Any] = {"shard": 0, "state": "ready"}
    cluster: dict[str, Any] = {"cluster": 1, "unit": "active", "shards": [view]}
    said: dict[str, Any] = {"type": "host_report", "plan_generation": 1, "clusters": [cluster]}
    if where in ("shard", "seq", "events", "since"):
        view[where] = number
    elif where in ("cluster", "run", "memory"):
        cluster[where] = number
    elif where == "released":
        said[where] = {str(number): {"session_id": "s", "resume_url": "wss://a", "seq": 1}}
    else:
        said[where] = [number] if where == "holding" else number
    if (where, number) == ("since", -1):  # clocks differ
        decode(control_to_master, json.dumps(said).encode(), peer="alpha")
    else:
        assert refused(said)


@pytest.mark.parametrize("field", ["spent", "identifies", "daily", "serial"])
def test_host_cannot_give_the_fleet_identifies_that_it_has_not(field: str) -> None:
    """Fewer than none spent would be added to what Discord allows."""
    assert ">= 0" in refused({"type": "allowance_report", "serial": 1, field: -1000})


def test_names_of_witnesses_are_host_names() -> None:
    """MASTER writes them into its plan when it overtakes a host's, and must read that again."""
    for name in ("", "A", "a b", "../x", "a\n", "-a", "a..b", "a" * 254):
        assert refused({"type": "host_report", "plan_generation": 9, "panel": [name]})


def test_words_that_a_host_says_of_itself_are_short() -> None:
    report = {"type": "host_report", "plan_generation": 1}
    for version in ("1" * 101, "1\n2", "\x1b[2J"):
        assert refused({"type": "hello", "protocol": 4, "version": version, "report": report})
    assert refused({"type": "plan_refused", "generation": 1, "errors": "x" * (2**18 + 1)})


def test_address_of_a_session_is_judged_in_no_time_however_long_it_is() -> None:
    """Each report is judged within MASTER's loop: a second there is one for the whole fleet."""
    for tail in (" ", "?", "/" * 1000 + " "):
        url = "ws://" + "a" * 3_000_000 + tail
        with within(cpu=1):
            assert not is_sound(Session(session_id="s", resume_url=url, seq=1))


def test_words_of_an_enumeration_come_back_short_and_printable() -> None:
    view = {"shard": 0, "state": "\x1b[2J" * 100_000}
    said = {"type": "cluster_report", "cluster": 1, "pid": 1, "generation": 1, "uptime": 1}
    data = json.dumps(said | {"handler": "", "shards": [view]}).encode()
    with pytest.raises(ProtocolError) as error:
        decode(cluster_to_control, data, peer="x")
    check_error(error.value)
    assert len(error.value.message) < 500


def test_report_of_all_shards_there_are_is_read_within_a_second() -> None:
    views = [ShardView(shard=n, state="ready") for n in range(65_536)]
    clusters = tuple(
        ClusterView(cluster=n // 256, unit="active", shards=tuple(views[n : n + 256]))
        for n in range(0, 65_536, 256)
    )
    data = encode(HostReport(plan_generation=1, clusters=clusters, holding=tuple(range(65_536))))
    with within(cpu=5, mebibytes=200):
        decode(control_to_master, data, peer="alpha")


@pytest.mark.parametrize(
    ("field", "item"), [("holding", 1), ("problems", "x"), ("panel", "a"), ("clusters", None)]
)
def test_list_longer_than_any_host_has_is_refused(field: str, item: object) -> None:
    views = [{"shard": 1, "state": "ready"}] * 100_000
    cluster = {"cluster": 1, "unit": "active", "shards": views}
    listed = [cluster] if field == "clusters" else [item] * 100_000
    assert "length" in refused({"type": "host_report", "plan_generation": 1, field: listed})


def test_last_of_a_duplicate_key_counts_as_for_every_reader_of_ours() -> None:
    """One decoder reads what came, and nobody else looks at the bytes: nothing to smuggle past."""
    message = decode(control_to_master, b'{"type":"ping","number":1,"number":2}', peer="x")
    assert encode(message) == b'{"type":"ping","number":2}'


async def restarted(running: Running, directory: Path) -> None:
    """MASTER could start with the files that it has now, and answers operators."""
    daemon: MasterDaemon = running.master
    assert MasterStore(directory).load() == daemon.fleet
    MasterStore(directory).remembered()
    assert encode(daemon.status())
    assert encode(daemon.permits.overview())


async def test_plan_that_nobody_made_is_objected_to(tmp_path: Path) -> None:
    """MASTER goes above the newest plan that a host follows; it would run out of numbers."""
    async with masters.master(tmp_path) as running:
        running.connect("beta")
        await running.after(50)
        assert running.master.fleet is not None
        ahead = running.master.fleet.generation + LONGEST_JUMP + 1
        assert running.master.objection("alpha", HostReport(plan_generation=ahead)) is not None
        assert running.master.objection("alpha", HostReport(plan_generation=2**62)) is not None
        assert running.master.objection("alpha", report(0)) is None


async def test_plan_of_a_lost_master_is_still_overtaken(tmp_path: Path) -> None:
    async with masters.master(tmp_path) as running:
        running.connect("beta", report(1_000_000))
        await running.after(50)
        assert running.master.fleet is not None
        assert running.master.fleet.generation > 1_000_000


async def test_cluster_with_the_last_number_and_too_many_shards_is_adopted(tmp_path: Path) -> None:
    """There is none after it for the next cluster, and more than a cluster takes."""
    views = tuple(ShardView(shard=n, state="ready") for n in range(400))
    hostile = HostReport(
        plan_generation=7,
        shard_count=400,
        holding=tuple(range(400)),
        clusters=(ClusterView(cluster=999_999, unit="active", run=2**63 - 1, shards=views),),
    )
    async with masters.master(tmp_path, shards=400) as running:
        running.connect("alpha", hostile)
        running.connect("beta")
        await running.after(60)
        assert running.master.fleet is not None
        await restarted(running, tmp_path)


async def test_serial_that_a_host_claims_uses_up_no_numbers(tmp_path: Path) -> None:
    """The next allowance of every host would have one that no CONTROL takes."""
    async with masters.master(tmp_path) as running:
        beta, alpha = running.connect("beta"), running.connect("alpha")
        await running.after(1)
        alpha.say(AllowanceReport(serial=2**63 - 1))
        beta.say(AllowanceReport(serial=0))
        await running.after(60)
        said = [message for message in beta.heard() if isinstance(message, Allowance)]
        assert said
        for message in said:
            assert decode(master_to_control, encode(message), peer="MASTER") == message


async def test_run_that_a_host_claims_leaves_room_for_a_restart(tmp_path: Path) -> None:
    """A restart raises it by one, and the plan must be readable then, too."""
    view = ShardView(shard=0, state="ready")
    cluster = ClusterView(cluster=5, unit="active", run=2**63 - 1, shards=(view,))
    told = HostReport(plan_generation=7, shard_count=4, holding=(0,), clusters=(cluster,))
    async with masters.master(tmp_path) as running:
        running.connect("alpha", told)
        await running.after(60)
        running.master.restarts.at_once(RestartRequest(clusters=(5,)))
        await restarted(running, tmp_path)


@pytest.mark.parametrize("at", [1e12, -1e12, 1e9])
async def test_instant_that_a_cluster_claims_is_one_that_master_takes(at: float) -> None:
    """CONTROL tells it by MASTER's clock. MASTER would refuse the message, and so the host."""
    clock = ManualClock()
    desk = PermitDesk(clock=clock, interval=5, purse=full_purse(clock))
    now = clock.monotonic()
    told: list[Message] = []
    for offset in (-5000, 5000):
        desk.master_connected(told.append, MasterTime(asked=now, told=now + offset, heard=now))
        desk.used(3, at=at)
    for message in told:
        assert decode(control_to_master, encode(message), peer="CONTROL") == message
    assert sum(isinstance(message, PermitUsed) for message in told) == 2


async def test_words_of_a_host_do_not_fill_masters_disk(tmp_path: Path) -> None:
    async with masters.master(tmp_path) as running:
        alpha = running.connect("alpha")
        with masters.quiet():
            alpha.say(PlanRefused(generation=1, errors="x" * 2**18))
        await running.after(1)
        assert (tmp_path / "events.jsonl").stat().st_size < 2 * LONGEST + 10_000


async def test_budget_is_not_more_after_a_host_has_reported(tmp_path: Path) -> None:
    async with masters.master(tmp_path) as running:
        alpha = running.connect("alpha")
        await running.after(1)
        before = running.master.permits.overview().identify.remaining
        alpha.say(AllowanceReport(serial=9, identifies=2**63 - 1, spent=0, daily=2**63 - 1))
        await running.after(1)
        after = running.master.permits.overview()
        assert before is not None
        assert after.identify.remaining is not None
        assert after.identify.remaining <= before
        assert after.spendable <= before
        assert msgspec.json.encode(after)
        await restarted(running, tmp_path)
