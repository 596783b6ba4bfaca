# SPDX-License-Identifier: Apache-2.0
"""What a lease allows, and what CONTROL left of it on disk."""

import mmap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.cluster.footprint import cpu_seconds, resident
from discluster.cluster.lease import ClusterLease
from discluster.cluster.stored import Stored
from discluster.errors import StateError
from discluster.lease import StoredLease, holds, read_lease, write_lease
from discluster.messages import Assignment, Held, Lease

INSTANTS = st.floats(0, 1000)
LEASES = st.builds(Lease, until=st.none() | INSTANTS, then=st.sampled_from(["stop", "keep"]))
HELD = Held(
    assignment=Assignment(
        cluster=3, generation=4, shard_count=8, gateway_url="wss://g.example", shards=(5,)
    )
)


class Machine:
    """Its clock."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def boottime(self) -> float:
        return self.now


@given(first=LEASES, second=LEASES, now=INSTANTS)
def test_newest_lease_alone_counts_and_as_the_noun_says(
    first: Lease, second: Lease, now: float
) -> None:
    lease = ClusterLease(boottime=Machine(now).boottime)
    assert not lease.may_run()
    lease.take(first)
    lease.take(second)
    assert lease.may_run() == holds(second, now)
    assert (lease.left > 0) == lease.may_run()
    assert (lease.obstacle(control_away=False) is None) == lease.may_run()


def test_time_that_is_left_runs_out_at_the_very_instant() -> None:
    machine = Machine(now=10.0)
    lease = ClusterLease(boottime=machine.boottime)
    assert lease.left == 0.0
    lease.take(Lease(until=12.5))
    assert lease.left == 2.5
    machine.now = 12.5
    assert not lease.may_run()
    lease.take(Lease(until=12.0, then="keep"))
    assert lease.left == float("inf")


def test_obstacle_says_whether_there_was_a_lease_and_who_is_away() -> None:
    machine = Machine(now=10.0)
    lease = ClusterLease(boottime=machine.boottime)
    kept = "; the sessions are kept"
    assert lease.obstacle(control_away=True) == f"no lease yet: CONTROL is away{kept}"
    lease.take(Lease(until=0.0))
    out_of_touch = f"this machine is out of touch with MASTER{kept}"
    assert lease.obstacle(control_away=False) == f"no lease yet: {out_of_touch}"
    lease.take(Lease(until=5.0))
    assert lease.obstacle(control_away=True) == f"the lease ended: CONTROL is away{kept}"
    assert lease.obstacle(control_away=False) == f"the lease ended: {out_of_touch}"


# --- on disk ---


def stored(directory: Path) -> Stored:
    return Stored(
        assignment=directory / "assignment.json",
        lease=lambda: read_lease(directory / "lease.json", boot_id="boot"),
    )


def test_nothing_on_disk_is_no_assignment_and_no_lease(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert stored(tmp_path).read() == (None, None)
    assert caplog.text == ""


def test_assignment_comes_with_the_lease_under_which_it_may_be_followed(tmp_path: Path) -> None:
    (tmp_path / "assignment.json").write_bytes(msgspec.json.encode(HELD))
    write_lease(tmp_path / "lease.json", StoredLease(boot_id="boot", until=7.0, then="stop"))
    assert stored(tmp_path).read() == (HELD.assignment, Lease(until=7.0))


def test_lease_of_another_boot_is_none(tmp_path: Path) -> None:
    write_lease(tmp_path / "lease.json", StoredLease(boot_id="before", until=None, then="stop"))
    assert stored(tmp_path).read() == (None, None)


def test_assignment_is_never_older_than_the_lease(tmp_path: Path) -> None:
    """CONTROL stores assignments, then the lease; it may do both while we read."""
    newer = msgspec.structs.replace(HELD.assignment, generation=5)

    def lease() -> Lease | None:
        # Whatever happened until the lease is read, the assignment must show it.
        content = msgspec.json.encode(Held(assignment=newer))
        (tmp_path / "assignment.json").write_bytes(content)
        return Lease(until=7.0)

    (tmp_path / "assignment.json").write_bytes(msgspec.json.encode(HELD))
    assert Stored(assignment=tmp_path / "assignment.json", lease=lease).read()[0] == newer


def test_damaged_lease_is_told_once_and_taken_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lease.json").write_text("{")
    (tmp_path / "assignment.json").write_bytes(msgspec.json.encode(HELD))
    files = stored(tmp_path)
    for _ in range(3):
        assert files.read() == (HELD.assignment, None)
    assert caplog.text.count("lease.json: not a lease") == 1


def test_boot_that_nobody_tells_is_no_lease(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lease() -> Lease | None:
        raise StateError("nobody tells the boot", hint="mend it")

    assert Stored(assignment=tmp_path / "none", lease=lease).read() == (None, None)
    assert "nobody tells the boot (mend it)" in caplog.text


# --- what the process uses ---


def test_footprint_is_that_of_this_process() -> None:
    before, memory = cpu_seconds(), resident()
    assert memory is not None
    # Not from the heap: that may have as much to spare from the tests before.
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        after = resident()
    assert after is not None
    assert 48 << 20 <= after - memory <= 128 << 20
    assert cpu_seconds() > before
