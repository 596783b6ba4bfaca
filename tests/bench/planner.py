# SPDX-License-Identifier: Apache-2.0
"""What planning costs as the fleet grows: ``python -m tests.bench.planner`` prints the table.

CPU seconds of one plan on one core, the least of three; 65.5 shards a host of weights 1 to 3, 16
shards in a cluster.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from discluster.master.planner import HostNeed, Target, plan_fleet
from discluster.plan import HostEntry

SIZES = (100, 300, 1000)
REPEATS = 3

Plan = Callable[[], Target]


def needs(hosts: int) -> dict[str, HostNeed]:
    return {f"h{n:04d}": HostNeed(weight=1 + n % 3) for n in range(hosts)}


def lost(hosts: Mapping[str, HostNeed]) -> dict[str, HostNeed]:
    """Every tenth host."""
    return {
        name: msgspec.structs.replace(need, state="lost", in_touch=False) if n % 10 == 0 else need
        for n, (name, need) in enumerate(hosts.items())
    }


def reweighted(hosts: Mapping[str, HostNeed]) -> dict[str, HostNeed]:
    return {
        name: msgspec.structs.replace(need, weight=1 + n * 7 % 5)
        for n, (name, need) in enumerate(hosts.items())
    }


def cases(hosts: int, lanes: int = 16) -> Iterator[tuple[str, Plan]]:
    """What is planned, in words, and how."""
    count = round(65.536 * hosts)
    before = needs(hosts)
    place = random.Random(1)
    costs = {shard: place.uniform(500, 1500) for shard in range(count)}

    def plan(
        after: Mapping[str, HostNeed],
        current: Mapping[str, HostEntry],
        costs: Mapping[int, float] | None = None,
        even: float | None = None,
    ) -> Target:
        return plan_fleet(count, after, current, max_concurrency=lanes, costs=costs, even=even)

    first = plan(before, {}).hosts
    fewer = plan(lost(before), first).hosts
    joined = before | {"new": HostNeed(weight=2)}
    yield "first plan", lambda: plan(before, {})
    yield "nothing changed", lambda: plan(before, first)
    yield "a host joins", lambda: plan(joined, first)
    yield "a tenth of the hosts is lost", lambda: plan(lost(before), first)
    yield "they come back", lambda: plan(before, fewer)
    yield "all weights change", lambda: plan(reweighted(before), first)
    yield "by guilds: a host joins", lambda: plan(joined, first, costs)
    yield "by guilds: a tenth is lost", lambda: plan(lost(before), first, costs)
    yield "by guilds: they come back", lambda: plan(before, fewer, costs)
    yield "by guilds: rebalance", lambda: plan(before, first, costs, 0.0)
    yield "by guilds: all weights change", lambda: plan(reweighted(before), first, costs)


def cpu_seconds(plan: Plan, repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        plan()
        taken.append(time.process_time() - began)
    return min(taken)


def main() -> None:
    columns = [{words: cpu_seconds(plan) for words, plan in cases(size)} for size in SIZES]
    print(
        "| CPU seconds |",
        " | ".join(f"{n:,} hosts, {round(65.536 * n):,} shards" for n in SIZES),
        "|",
    )
    print("|---|" + "---:|" * len(SIZES))
    for words in columns[0]:
        print(f"| {words} |", " | ".join(f"{column[words]:.3f}" for column in columns), "|")


if __name__ == "__main__":
    main()
