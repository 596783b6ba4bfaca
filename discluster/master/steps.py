# SPDX-License-Identifier: Apache-2.0
"""What a step of ownership did, in sentences. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from discluster.master.orders.changes import MANY, listed
from discluster.master.ownership import Advance


def describe_step(step: Advance, *, lost: Collection[str] = ()) -> list[str]:
    """What was withdrawn and granted."""
    withdrawn = Counter(("", host) for host in step.withdrawn.values())
    kinds: dict[str, Counter[tuple[str, str]]] = {
        kind: Counter() for kind in ("nobody", "back", "lost", "released")
    }
    for shard, before in step.granted.items():
        host = step.fleet.granted[shard].host
        if before is None:
            kinds["nobody"][host, ""] += 1
        elif before == host:
            kinds["back"][host, host] += 1
        else:
            kinds["lost" if before in lost else "released"][host, before] += 1
    return [
        *_told(withdrawn, lambda _, host, n: f"withdraws {n} shards from {host}"),
        *_told(kinds["nobody"], lambda to, _, n: f"gives {to} {n} shards that nobody had"),
        *_told(kinds["back"], lambda to, _, n: f"leaves {to} {n} shards that were withdrawn"),
        *_told(kinds["lost"], lambda to, host, n: f"gives {to} {n} shards that {host} lost"),
        *_told(
            kinds["released"], lambda to, host, n: f"gives {to} {n} shards that {host} released"
        ),
    ]


def _told(
    pairs: Counter[tuple[str, str]], sentence: Callable[[str, str, int], str]
) -> Iterable[str]:
    """One sentence for each pair of hosts, or one for all."""
    if len(pairs) > MANY:
        targets, sources = ({pair[side] for pair in pairs} for side in (0, 1))
        return [sentence(listed(targets), listed(sources), pairs.total())]
    return [sentence(target, source, count) for (target, source), count in sorted(pairs.items())]
