# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios, and whether a target is met."""

import pytest

from tests.bench.figures import (
    CALIBRATION,
    DEFAULT,
    REFERENCE,
    Target,
    Throughput,
    per_idle_shard,
    spread,
    targets,
)
from tests.bench.measure import Sample
from tests.unit.bench.runs import idle, sample


def the_target(found: list[Target], words: str) -> Target:
    (target,) = [target for target in found if words in target.what]
    return target


def test_spread_is_the_median_and_the_range() -> None:
    found = spread([5.0, 1.0, 9.0])
    assert (found.median, found.low, found.high, found.runs) == (5.0, 1.0, 9.0, 3)
    assert spread([1.0, 2.0]).median == 1.5


def test_no_runs_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no runs"):
        spread([])


def test_ratio_compares_runs_of_the_same_round() -> None:
    # The machine is twice as slow in the second round; the ratio does not care.
    rates = Throughput(
        [sample("a:zstd", 400), sample("b:none", 100), sample("a:zstd", 200), sample("b:none", 50)]
    )
    ratio = rates.ratio("a:zstd", "b:none")
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((4, 4, 4))


def test_ratio_with_a_row_that_was_not_measured_is_none() -> None:
    assert Throughput([sample("a:zstd", 400)]).ratio("a:zstd", "b:none") is None


def test_fastest_row_of_a_client_is_found_among_its_own() -> None:
    rates = Throughput(
        [sample("hikari:zlib", 90), sample("hikari:none", 100), sample("discord.py:none", 500)]
    )
    assert rates.fastest("hikari") == "hikari:none"
    assert rates.fastest("eris") is None


def test_idle_memory_takes_one_base_off_for_each_process() -> None:
    samples = [
        idle(DEFAULT, 1, 40_000),
        idle(DEFAULT, 101, 45_000),
        idle(DEFAULT, 1000, 4 * 40_000 + 996 * 30, processes=4),
    ]
    for shards, wanted in ((101, 50.0), (1000, 30.0)):
        found = per_idle_shard(samples, DEFAULT, shards)
        assert found is not None
        assert found.median == pytest.approx(wanted)
    assert per_idle_shard(samples, DEFAULT, 1) is None
    assert per_idle_shard(samples, "other:none", 101) is None


def test_idle_memory_without_tls_is_not_mixed_with_that_over_it() -> None:
    samples = [
        idle(DEFAULT, 1, 40_000),
        idle(DEFAULT, 1, 30_000, tls=False),
        idle(DEFAULT, 101, 36_000, tls=False),
    ]
    assert per_idle_shard(samples, DEFAULT, 101) is None
    found = per_idle_shard(samples, DEFAULT, 101, tls=False)
    assert found is not None
    assert found.median == pytest.approx(60.0)


@pytest.mark.parametrize(("rate", "met"), [(400_000, True), (399_000, False)])
def test_target_for_the_rate_is_scaled_by_the_calibration(rate: float, met: bool) -> None:
    rates = Throughput([sample(DEFAULT, rate), sample(CALIBRATION, 2 * REFERENCE)])
    assert the_target(targets(rates, []), "scaled").met is met
    assert the_target(targets(rates, []), "as measured").met is True


@pytest.mark.parametrize(("peer", "met"), [(10.0, True), (10.1, False)])
def test_target_against_a_peer_is_met_from_fifteen_times_on(peer: float, met: bool) -> None:
    rates = Throughput([sample(DEFAULT, 150), sample("hikari:zstd", peer)])
    assert the_target(targets(rates, []), "at its fastest").met is met
    assert the_target(targets(rates, []), "both zstd").met is met


def test_peer_without_a_row_of_ours_is_not_called_met() -> None:
    found = targets(Throughput([sample("hikari:zlib", 10)]), [])
    assert [target.met for target in found] == [None]


@pytest.mark.parametrize(("floor", "met"), [(250.0, True), (251.0, False)])
def test_floor_may_be_two_and_a_half_times_as_fast(floor: float, met: bool) -> None:
    rates = Throughput([sample("ours-count:zlib", 100), sample("floor:zlib", floor)])
    assert the_target(targets(rates, []), "floor").met is met


@pytest.mark.parametrize(("kilobytes", "met"), [(40, True), (41, False)])
def test_idle_target_is_forty_kilobytes(kilobytes: int, met: bool) -> None:
    samples = [idle(DEFAULT, 1, 40_000), idle(DEFAULT, 101, 40_000 + 100 * kilobytes)]
    none: list[Sample] = []
    assert [target.met for target in targets(Throughput(none), samples)] == [met]
