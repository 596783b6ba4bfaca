# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs: few events, our own rows, nothing of other people's."""

from pathlib import Path

import msgspec
import pytest

from tests.bench.master import Sample
from tests.bench.results import RAW_NAME, read
from tests.brokers.installation import program
from tests.scenario.processes import run


@pytest.mark.timeout(180)
async def test_benchmark_runs_and_counts_every_event(tmp_path: Path) -> None:
    done = await run("tests.bench", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / RAW_NAME)
    rows = {sample.row for sample in found.samples}
    assert {"ours-count:zstd", "ours-parse:none", "floor:zlib", "calibration:zlib"} <= rows
    assert {"local:none", "local-four:zstd", "local-zlib:zstd", "local-zstd:zstd"} <= rows
    assert all(sample.cpu > 0 and sample.wire > 0 for sample in found.samples)
    assert [sample.shards for sample in found.idle] == [1, 4]
    assert [sample.shards for sample in found.starts] == [10]
    text = (tmp_path / "benchmarks.md").read_text()
    assert "Discluster, counting handler" in text
    assert (tmp_path / "benchmarks.svg").read_text().startswith("<svg")


@pytest.mark.skipif(
    any(program(f"{broker}-server") is None for broker in ("nats", "redis")),
    reason="the brokers are not installed: run tests/brokers/install as root",
)
@pytest.mark.timeout(180)
async def test_benchmark_of_brokers_runs_until_they_have_every_event(tmp_path: Path) -> None:
    done = await run(
        "tests.bench", "--quick", "--rows", "nats:*", "redis:*", "--output", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    rates = {sample.row: sample.rate for sample in read(tmp_path / RAW_NAME).samples}
    assert set(rates) == {"nats:zstd", "redis:zstd"}
    assert "Discluster, NATS JetStream | publishes it" in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.timeout(180)
async def test_benchmark_of_master_runs_every_shard_once_all_along(tmp_path: Path) -> None:
    where = tmp_path / "master.json"
    done = await run("tests.bench.master", "--quick", "--hosts", "50", "--json", str(where))
    assert done.returncode == 0, done.stderr
    (sample,) = msgspec.json.decode(where.read_bytes(), type=list[Sample])
    assert sample.fleet.shards == 3277
    assert min(sample.start.pushes, sample.push.pushes) >= 50
    assert sample.fleet.lease < sample.noticed < sample.lost.seconds
