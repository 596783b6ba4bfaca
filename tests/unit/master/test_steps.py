# SPDX-License-Identifier: Apache-2.0
"""What a step of ownership is called: each pair of hosts, or their sum where there are many."""

import msgspec

from discluster.master.orders.changes import describe_reason, moves_in_words
from discluster.master.ownership import Advance
from discluster.master.steps import describe_step
from discluster.plan import ClusterPlan, Grant, HostEntry
from tests.unit.master.fleets import fleet


def step(
    granted: dict[int, tuple[str, str | None]], withdrawn: dict[int, str] | None = None
) -> Advance:
    """``granted``: shard -> host now, host before."""
    grants = {shard: Grant(host=host) for shard, (host, _) in granted.items()}
    return Advance(
        fleet=msgspec.structs.replace(fleet({"a": {0: [0]}}, shard_count=100), granted=grants),
        changed=True,
        granted={shard: before for shard, (_, before) in granted.items()},
        withdrawn=withdrawn or {},
    )


def test_few_moves_are_told_one_by_one() -> None:
    made = step(
        {0: ("b", "a"), 1: ("b", "a"), 2: ("c", "gone"), 3: ("c", None), 4: ("d", "d")},
        {5: "a", 6: "a", 7: "b"},
    )
    assert describe_step(made, lost={"gone"}) == [
        "withdraws 2 shards from a",
        "withdraws 1 shards from b",
        "gives c 1 shards that nobody had",
        "leaves d 1 shards that were withdrawn",
        "gives c 1 shards that gone lost",
        "gives b 2 shards that a released",
    ]


def test_moves_between_many_hosts_are_one_sentence() -> None:
    to_one = step({n: ("new", f"h{n:03d}") for n in range(64)})
    assert describe_step(to_one) == ["gives new 64 shards that 64 hosts released"]
    from_two = step({n: (f"h{n:03d}", "x" if n % 2 else "y") for n in range(100)})
    assert describe_step(from_two, lost={"x", "y"}) == ["gives 100 hosts 100 shards that x, y lost"]
    taken = step({}, {n: f"h{n % 50}" for n in range(100)})
    assert describe_step(taken) == ["withdraws 100 shards from 50 hosts"]


def test_nothing_done_is_nothing_told() -> None:
    assert describe_step(step({})) == []


def entry(*shards: int, number: int = 0) -> HostEntry:
    clusters = {number: ClusterPlan(shards=shards)} if shards else {}
    return HostEntry(weight=1.0, shards_per_cluster=64, clusters=clusters)


def test_plan_of_many_hosts_has_a_short_reason() -> None:
    before = fleet({f"h{n}": {n: [n]} for n in range(40)})
    after = msgspec.structs.replace(
        before, hosts={f"h{n}": before.hosts[f"h{n}"] for n in range(20)}
    )
    lost = {f"h{n}": f"h{n} is lost" for n in range(20, 40)}
    assert describe_reason(None, before) == "first plan, for 40 hosts"
    assert describe_reason(before, after, departed=lost) == "a host is lost (20 times)"
    few = {host: words for host, words in lost.items() if host in ("h20", "h21")}
    assert describe_reason(before, before, departed=few) == "h20 is lost; h21 is lost"


def test_moves_between_many_hosts_are_summed_up() -> None:
    before = fleet({"a": {0: range(20)}, "b": {1: [20]}})
    spread = {f"h{n}": entry(n, number=n + 2) for n in range(20)}
    after = msgspec.structs.replace(before, hosts={"a": entry(), "b": before.hosts["b"], **spread})
    assert moves_in_words(before, after) == "moves 20 from a to 20 hosts"
