# SPDX-License-Identifier: Apache-2.0
"""From counters to how busy a cluster is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.control.load import UNKNOWN, Load, Meter
from discluster.control.supervisor import UnitView, Usage
from discluster.messages import ClusterReport, ShardView, UnitState

MEBIBYTE = 1 << 20


def report(
    *events: int,
    pid: int = 7,
    cpu: float | None = None,
    memory: int | None = None,
    first: int = 0,
) -> ClusterReport:
    """Of cluster 3, with shards from ``first`` on."""
    return ClusterReport(
        cluster=3,
        pid=pid,
        generation=1,
        uptime=0.0,
        handler="h",
        shards=tuple(
            ShardView(shard=first + n, state="ready", events=e) for n, e in enumerate(events)
        ),
        cpu_seconds=cpu,
        memory=memory,
    )


def looked(
    load: Load,
    at: float,
    cpu: float | None = None,
    memory: int | None = None,
    state: UnitState = "active",
) -> None:
    usage = Usage(at=at, cpu_seconds=cpu, memory=memory)
    load.looked({3: UnitView(state=state, usage=usage)})


def test_rates_are_per_second_over_the_last_quarter_of_a_minute() -> None:
    load = Load()
    for at in range(0, 40, 2):
        busy = max(0, at - 20)
        looked(load, at, cpu=busy * 0.5, memory=64 * MEBIBYTE)
        load.reported(report(100 * busy, 10 * busy), at)
    told = load.of(3, 38)
    assert told.cpu == pytest.approx(0.5)
    assert told.memory == 64 * MEBIBYTE
    assert told.event_rate == pytest.approx(110.0)


def test_first_look_says_nothing_of_rates() -> None:
    load = Load()
    looked(load, 100.0, cpu=5000.0, memory=MEBIBYTE)
    load.reported(report(123456), 100.0)
    assert load.of(3, 100.0).cpu is None
    assert load.of(3, 100.0).event_rate is None
    assert load.of(3, 100.0).memory == MEBIBYTE
    looked(load, 104.0, cpu=5002.0)
    load.reported(report(123496), 104.0)
    assert load.of(3, 104.0).cpu == pytest.approx(0.5)
    assert load.of(3, 104.0).event_rate == pytest.approx(10.0)


def test_restart_of_a_unit_neither_hides_nor_invents_load() -> None:
    load = Load()
    looked(load, 0.0, cpu=900.0)
    load.reported(report(1000, 2000), 0.0)
    looked(load, 10.0, cpu=4.0)  # 900 s before, and 4 s since it was restarted
    load.reported(report(50, 30, pid=8), 10.0)
    assert load.of(3, 10.0).cpu == pytest.approx(0.4)
    assert load.of(3, 10.0).event_rate == pytest.approx(8.0)


def test_restart_is_known_by_the_process_though_its_counter_is_higher() -> None:
    load = Load()
    load.reported(report(10, cpu=1.0), 0.0)
    load.reported(report(40, cpu=3.0, pid=8), 10.0)
    assert load.of(3, 10.0).event_rate == pytest.approx(4.0)
    assert load.of(3, 10.0).cpu == pytest.approx(0.3)


def test_shards_that_come_and_go_are_no_load() -> None:
    load = Load()
    load.reported(report(1000, 1000, 1000), 0.0)
    load.reported(report(1020, first=2), 10.0)  # 0 and 1 left
    load.reported(report(10, 1040, first=1), 20.0)  # 1 is back
    assert load.of(3, 20.0).event_rate == pytest.approx((20 + 10 + 20) / 20)


def test_what_a_cluster_tells_of_itself_stands_in_for_what_the_supervisor_lacks() -> None:
    load = Load()
    for at in (0.0, 5.0, 10.0):
        looked(load, at)
        load.reported(report(0, cpu=at / 10, memory=40 * MEBIBYTE), at)
    assert load.of(3, 10.0).cpu == pytest.approx(0.1)
    assert load.of(3, 10.0).memory == 40 * MEBIBYTE
    looked(load, 15.0, cpu=100.0, memory=90 * MEBIBYTE)
    looked(load, 20.0, cpu=101.0, memory=90 * MEBIBYTE)
    assert load.of(3, 20.0).cpu == pytest.approx(0.2), "with the handler's processes"
    assert load.of(3, 20.0).memory == 90 * MEBIBYTE


def test_look_that_did_not_read_the_usage_changes_nothing() -> None:
    load = Load()
    looked(load, 0.0, cpu=1.0, memory=MEBIBYTE)
    load.looked({3: UnitView(state="active")})
    looked(load, 10.0, cpu=2.0, memory=MEBIBYTE)
    load.looked({3: UnitView(state="active")})
    assert load.of(3, 10.0).cpu == pytest.approx(0.1)
    assert load.of(3, 10.0).memory == MEBIBYTE


@pytest.mark.parametrize("state", ["failed", "inactive"])
def test_nothing_is_told_of_a_cluster_that_does_not_run(state: UnitState) -> None:
    load = Load()
    looked(load, 0.0, cpu=1.0, memory=MEBIBYTE)
    looked(load, 5.0, cpu=2.0, memory=MEBIBYTE, state=state)
    assert load.of(3, 5.0) == UNKNOWN
    assert load.of(4, 5.0) == UNKNOWN


def test_rates_that_nobody_renewed_are_told_no_more() -> None:
    load = Load()
    looked(load, 0.0, cpu=1.0)
    looked(load, 10.0, cpu=2.0)
    assert load.of(3, 39.0).cpu is not None
    assert load.of(3, 41.0).cpu is None


def test_reports_in_a_burst_cost_no_memory_and_no_precision() -> None:
    meter = Meter()
    for tick in range(3000):
        meter.read(tick / 10, tick)
    assert meter.rate(300.0) == pytest.approx(10.0)
    assert len(meter._samples) < 30


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 20.0), st.integers(0, 1000), st.booleans()), min_size=2)
)
def test_rate_lies_between_the_slowest_and_the_fastest_that_was(
    steps: list[tuple[float, int, bool]],
) -> None:
    meter, at, count = Meter(), 0.0, 0
    rates = []
    for pause, more, restart in steps:
        at += pause
        # A counter that began anew counts what came since.
        count = more if restart else count + more
        meter.read(at, count, anew=restart)
        rates.append(more / pause)
    rate = meter.rate(at)
    assert rate is None or min(rates[1:]) * 0.999 <= rate <= max(rates[1:]) * 1.001


@given(st.lists(st.floats(0.05, 20.0), min_size=2, max_size=60))
def test_window_reaches_back_as_far_as_it_must_and_no_further_than_one_sample_more(
    pauses: list[float],
) -> None:
    meter, at, times = Meter(), 0.0, []
    for pause in pauses:
        at += pause
        times.append(at)
        meter.read(at, at * 3)
    kept = [time for time, _ in meter._samples]
    assert kept[0] in times
    assert kept[-1] == times[-1]
    assert all(earlier < later for earlier, later in pairwise(kept))
    assert kept[0] == times[0] or at - kept[0] >= 15.0
    assert len(kept) < 3 or at - kept[1] < 15.0
