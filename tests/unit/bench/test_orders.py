# SPDX-License-Identifier: Apache-2.0
"""What the measured programs are told and tell, and how shards are shared out among them."""

import pytest

from tests.bench.cluster import split
from tests.bench.orders import Orders, Teller, read_orders


def test_orders_arrive_as_they_were_given() -> None:
    orders = Orders(
        api="http://127.0.0.1:1/api/v10",
        gateway="ws://127.0.0.1:2",
        token="a.b.c",
        shards=8,
        compression="zlib",
        marks=(10, 20),
    )
    assert read_orders(orders.environment()) == orders


def test_teller_tells_each_mark_once(capfd: pytest.CaptureFixture[str]) -> None:
    teller = Teller((2, 5))
    for _ in range(9):
        teller.count()
    assert capfd.readouterr().out.splitlines() == ["counted 2", "counted 5"]


def test_teller_betrays_events_too_many(capfd: pytest.CaptureFixture[str]) -> None:
    teller = Teller((2, 5))
    teller.count_many(4)
    teller.count_many(2)
    assert capfd.readouterr().out.splitlines() == ["counted 4", "counted 6"]


@pytest.mark.parametrize(("shards", "sizes"), [(1, [1]), (8, [8]), (11, [5, 6]), (20, [10, 10])])
def test_shards_are_shared_out_among_few_clusters_of_one_size(
    shards: int, sizes: list[int]
) -> None:
    parts = split(shards, most=10)
    assert [len(part) for part in parts] == sizes
    assert [shard for part in parts for shard in part] == list(range(shards))
