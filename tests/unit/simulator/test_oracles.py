# SPDX-License-Identifier: Apache-2.0
"""Each oracle on small ledgers: what it lets pass, and what it catches."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from discluster.simulator import ledger
from discluster.simulator.ledger import Record
from discluster.simulator.oracles import Limits, judge, uniform_distance

SHARD = (3, 16)
Build = Callable[[], list[Record]]


def identify(time: float, connection: int = 1, session: str = "a", **changes: object) -> Record:
    record = ledger.Identify(
        time=time, connection=connection, shard=SHARD, session=session, accepted=True, lane=3
    )
    return msgspec.structs.replace(record, **changes)


def ready(time: float, connection: int = 1, session: str = "a") -> Record:
    return ledger.Ready(
        time=time, connection=connection, shard=SHARD, session=session, guilds=1, resume_url=""
    )


def resume(time: float, connection: int = 2, session: str = "a") -> Record:
    return ledger.Resume(
        time=time, connection=connection, shard=SHARD, session=session, accepted=True
    )


def resumed(time: float, connection: int = 2, session: str = "a") -> Record:
    return ledger.Resumed(
        time=time, connection=connection, shard=SHARD, session=session, replayed=0, seq=9
    )


def close(time: float, connection: int = 1, session: str = "a", **changes: object) -> Record:
    record = ledger.Close(
        time=time,
        connection=connection,
        shard=SHARD,
        session=session,
        by="tcp",
        authenticated=True,
    )
    return msgspec.structs.replace(record, **changes)


def end(time: float, reason: str = "expired", session: str = "a") -> Record:
    return ledger.SessionEnd(time=time, shard=SHARD, session=session, reason=reason)


def invalid(time: float, connection: int = 1, session: str | None = "a") -> Record:
    return ledger.InvalidSession(
        time=time, connection=connection, shard=SHARD, session=session, resumable=False
    )


def opened(time: float, connection: int = 1) -> Record:
    return ledger.Open(time=time, connection=connection, path="/", query={})


def beat(time: float, connection: int = 1, **changes: object) -> Record:
    return msgspec.structs.replace(ledger.Heartbeat(time=time, connection=connection), **changes)


def http(time: float, status: int) -> Record:
    return ledger.Http(time=time, method="GET", path="/api/v10/gateway/bot", status=status)


def fault(time: float, action: str) -> Record:
    return ledger.Fault(time=time, action=action, connection=1)


def violated(records: list[Record], *, limits: Limits | None = None) -> set[str]:
    numbered = [msgspec.structs.replace(record, n=n) for n, record in enumerate(records, 1)]
    now = max(record.time for record in records) + 1
    return {verdict.oracle for verdict in judge(numbered, limits or Limits(), now=now)}


def crowd(offset: Callable[[int], float], size: int = 100) -> list[Record]:
    """First heartbeats of many connections that live long enough."""
    records: list[Record] = []
    for number in range(size):
        records += [
            opened(0.0, number),
            beat(offset(number), number, offset=offset(number)),
            close(100.0, number, by="client", code=4000),
        ]
    return sorted(records, key=lambda record: record.time)


GOOD: dict[str, list[Record]] = {
    "start, drop, resume": [
        identify(0), ready(0), close(60), resume(61), resumed(61),
    ],
    "lost session": [
        identify(0), ready(0), close(60), end(200), resume(300), invalid(300, 2),
        identify(302, 3, "b"), ready(302, 3, "b"),
    ],
    "final stop": [identify(0), ready(0), close(60, by="client", code=1000)],
    "lost before ready": [identify(0), close(0.2), end(0.2, "no-ready"), identify(9, 2, "b")],
    "identify exactly in time": [identify(0), end(1), identify(5, 2, "b", gap=5.0)],
    "a moment of overlap": [identify(0), ready(0), resume(60), resumed(60), close(60.5)],
    "news under way": [close(0, by="server", code=4004), opened(4, 2)],
    "operator acted": [
        close(0, by="server", code=4004), fault(50, "token-accept"), opened(60, 2),
    ],
    "regular beats": [beat(30, offset=30.0), beat(71.25, gap=41.25), beat(112.7, gap=41.45)],
    "requested beat between": [
        beat(30, offset=30.0), beat(40, gap=10.0, requested=0.2), beat(71.25, gap=31.25),
    ],
    "beats of a muted connection": [
        fault(0, "mute-connection"), beat(30, offset=30.0), beat(200, gap=170.0),
    ],
    "spread beats": crowd(lambda number: (number * 0.618 % 1) * 41.25),
    "short lives show early beats only": [
        record
        for number in range(100)
        for record in (opened(0, number), beat(0.4, number, offset=0.4), close(1, number))
    ],
    "another shard count": [
        identify(0), ready(0), identify(9, 2, "b", shard=(3, 32)),
        msgspec.structs.replace(ready(9, 2, "b"), shard=(3, 32)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_behaviour_passes(name: str) -> None:
    assert violated(GOOD[name]) == set()


BAD: dict[str, tuple[set[str], list[Record]]] = {
    "too soon": ({"O-01"}, [identify(0), end(1), identify(4.9, 2, "b", gap=4.9)]),
    "closed its own session": (
        {"O-03", "O-12"},
        [identify(0), ready(0), close(9, by="client", code=1000), end(9, "client-closed"),
         identify(20, 2, "b")],
    ),
    "budget spent": ({"O-03"}, [ledger.Violation(rule="budget-exhausted", text="")]),
    "identify on a resume host": (
        {"O-04"}, [ledger.Violation(rule="identify-on-resume-host", text="")],
    ),
    "identify instead of resume": (
        {"O-03", "O-05"}, [identify(0), ready(0), close(60), identify(70, 2, "b")],
    ),
    "rejected identify instead of resume": (
        {"O-05"}, [identify(0), ready(0), close(60), identify(70, 2, "b", accepted=False)],
    ),
    "hasty after op 9": ({"O-06"}, [identify(0), invalid(9), end(9), identify(9.5, 1, "b")]),
    "used a dead session": ({"O-06"}, [identify(0), invalid(9), end(9), resume(20)]),
    "dial after 4004": ({"O-07"}, [close(0, by="server", code=4004), opened(6, 2)]),
    "dial after 401": ({"O-07"}, [http(0, 401), http(60, 401)]),
    "two connections": ({"O-09"}, [ready(0), ready(10, 2, "b"), close(12)]),
    "two connections at the end": (
        {"O-09"}, [ready(0), ready(10, 2, "b"), beat(12, offset=2.0)],
    ),
    "flood": ({"O-10"}, [ledger.Violation(rule="send-rate", text="")]),
    "late beat": ({"O-11"}, [beat(30, offset=30.0), beat(74, gap=44.0)]),
    "early beat": ({"O-11"}, [beat(30, offset=30.0), beat(68, gap=38.0)]),
    "late first beat": ({"O-11"}, [beat(42, offset=42.0)]),
    "late answer": ({"O-11"}, [beat(30, offset=30.0, requested=1.5)]),
    "no beat": ({"O-11"}, [ledger.Violation(rule="heartbeat-missed", text="")]),
    "no jitter": ({"O-11"}, crowd(lambda number: 41.25)),
    "no jitter, at once": ({"O-11"}, crowd(lambda number: 0.001)),
    "jitter over half the interval": ({"O-11"}, crowd(lambda number: number * 0.2)),
    "accident": (
        {"O-12"},
        [identify(0), ready(0), close(60, by="client", code=1001), end(60, "client-closed"),
         resume(61)],
    ),
    "anything else": ({"STRICT"}, [ledger.Violation(rule="compress", text="")]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_behaviour_is_caught(name: str) -> None:
    oracles, records = BAD[name]
    assert violated(records) == oracles


def test_verdicts_name_their_records() -> None:
    records = [identify(0), ready(0), close(60), identify(70, 2, "b")]
    numbered = [msgspec.structs.replace(record, n=n) for n, record in enumerate(records, 11)]
    (verdict,) = (v for v in judge(numbered, Limits(), now=80) if v.oracle == "O-05")
    assert verdict.records == [12, 14]
    assert "(3, 16)" in verdict.text


def test_slack_is_in_real_seconds() -> None:
    records = [beat(30, offset=30.0), beat(80, gap=50.0)]
    assert violated(records) == {"O-11"}
    assert violated(records, limits=Limits(time_factor=0.01)) == set()


@pytest.mark.parametrize(
    ("sample", "distance"), [([0.5], 0.5), ([0.0, 1.0], 0.5), ([0.25, 0.75], 0.25), ([2.0], 1.0)]
)
def test_distance_from_uniform(sample: list[float], distance: float) -> None:
    assert uniform_distance(sample) == pytest.approx(distance)
