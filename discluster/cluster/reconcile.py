# SPDX-License-Identifier: Apache-2.0
"""The cluster's decision: from its assignment and its shards, to what to open and close. Pure."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from discluster.messages import Assignment


class Running(msgspec.Struct, frozen=True):
    """A shard that is here. ``shard_count``, ``gateway_url``: those it was opened with. ``over``:
    Discord rejected it for good, so it has no socket and gets none.
    """

    shard_count: int
    gateway_url: str
    state: Literal["open", "closing", "over"] = "open"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, and one sentence."""

    open: tuple[int, ...] = ()
    close: tuple[int, ...] = ()
    sentence: str


def decide(
    assignment: Assignment | None, running: Mapping[int, Running], *, unleased: str | None = None
) -> Decision:
    """The next safe steps. A shard that is closing is opened again only when it is gone.

    ``unleased``: why no shard may run, in words; then all are closed, and none is opened. One that
    is over stays, or Discord would be asked again when a lease comes. Without an assignment nothing
    is touched.
    """
    if assignment is None:
        return Decision(sentence="no assignment yet")
    if unleased is not None:
        still = tuple(sorted(shard for shard, now in running.items() if now.state == "open"))
        told = f"closing shards {_listed(still)}" if still else "no shard runs"
        return Decision(close=still, sentence=f"{told}: {unleased}")
    target = Running(assignment.shard_count, assignment.gateway_url)
    wanted = set(assignment.shards)
    opened = tuple(sorted(wanted - running.keys()))
    # A changed gateway address alone is no reason to close: it is used at the next connection.
    closed = tuple(
        sorted(
            shard
            for shard, now in running.items()
            if now.state != "closing"
            and (shard not in wanted or now.shard_count != target.shard_count)
        )
    )
    return Decision(open=opened, close=closed, sentence=_sentence(assignment, opened, closed))


def _sentence(assignment: Assignment, opened: tuple[int, ...], closed: tuple[int, ...]) -> str:
    told = []
    if opened:
        told.append(f"opening shards {_listed(opened)}")
    if closed:
        told.append(f"closing shards {_listed(closed)}")
    if told:
        return f"assignment {assignment.generation}: {', '.join(told)}"
    return f"nothing to do: {len(assignment.shards)} shards run assignment {assignment.generation}"


def _listed(shards: tuple[int, ...]) -> str:
    if len(shards) > 2 and shards[-1] - shards[0] == len(shards) - 1:
        return f"{shards[0]} to {shards[-1]}"
    return ", ".join(map(str, shards))
