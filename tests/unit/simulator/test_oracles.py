# SPDX-License-Identifier: Apache-2.0
"""Each oracle on small ledgers: what it lets pass, and what it catches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import process_time

import msgspec
import pytest

from discluster.simulator import ledger
from discluster.simulator.ledger import Record
from discluster.simulator.oracles import (
    Claims,
    Limits,
    Verdict,
    judge,
    report_all,
    uniform_distance,
)

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


def resume(
    time: float, connection: int = 2, session: str = "a", *, seq: int | None = None
) -> Record:
    return ledger.Resume(
        time=time, connection=connection, shard=SHARD, session=session, accepted=True, seq=seq
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


def fault(time: float, action: str, **changes: object) -> Record:
    record = ledger.Fault(time=time, action=action, connection=1)
    return msgspec.structs.replace(record, **changes)


def held_up(time: float, seconds: float) -> Record:
    return ledger.HeldUp(time=time, seconds=seconds)


def numbered(records: list[Record]) -> list[Record]:
    return [msgspec.structs.replace(record, n=n) for n, record in enumerate(records, 1)]


def verdicts(
    records: list[Record],
    *,
    limits: Limits | None = None,
    claims: Claims | None = None,
    now: float | None = None,
) -> list[Verdict]:
    end = max(record.time for record in records) + 1 if now is None else now
    return judge(numbered(records), limits or Limits(), now=end, claims=claims)


def violated(
    records: list[Record],
    *,
    limits: Limits | None = None,
    claims: Claims | None = None,
    now: float | None = None,
) -> set[str]:
    found = verdicts(records, limits=limits, claims=claims, now=now)
    return {verdict.oracle for verdict in found}


def of_shard(record: Record, shard_id: int, num_shards: int = 100) -> Record:
    return msgspec.structs.replace(record, shard=(shard_id, num_shards))


def dials(times: Iterable[float], *, address: str = "127.0.0.1", shard: int | None = None) -> Build:
    """Connections, one after the other: of a shard, or hung up without a word."""

    def build() -> list[Record]:
        records: list[Record] = []
        for number, time in enumerate(times, 1):
            records.append(msgspec.structs.replace(opened(time, number), address=address))
            if shard is None:
                nobody = close(time + 0.1, number, by="client", authenticated=False)
                records.append(msgspec.structs.replace(nobody, shard=None, session=None))
            else:
                records.append(of_shard(resumed(time, number), shard))
                records.append(of_shard(close(time + 0.1, number), shard))
        return records

    return build


def scripted(time: float, point: str, connection: int | None = None, **changes: object) -> Record:
    record = ledger.Scripted(time=time, rule=1, point=point, connection=connection)
    return msgspec.structs.replace(record, **changes)


def crowd(offset: Callable[[int], float], size: int = 100) -> list[Record]:
    """First heartbeats of many connections that live long enough."""
    records: list[Record] = []
    for number in range(size):
        session = f"s{number}"
        records += [
            opened(0.0, number),
            of_shard(ready(0.0, number, session), number, size),
            beat(offset(number), number, offset=offset(number)),
            of_shard(close(100.0, number, session, by="client", code=4000), number, size),
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
    "told to forget a session that lives on": [
        identify(0), ready(0), close(60), resume(61), invalid(61, 2), identify(63, 3, "b"),
        ready(63, 3, "b"),
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
        for record in (
            opened(0, number),
            of_shard(resumed(0, number, f"{number}"), number),
            beat(0.4, number, offset=0.4),
            of_shard(close(1, number, f"{number}"), number),
        )
    ],
    "asked for though there was no room": [
        beat(10, offset=10.0),
        *(ledger.Command(time=40 + number / 10, connection=1, op=4) for number in range(115)),
        beat(51.25, requested=0.05), beat(92.5, requested=40.0), beat(133.75, gap=41.25),
    ],
    "beats begin anew after a request": [
        beat(30, offset=30.0), beat(40, gap=10.0, requested=0.2), beat(81.25, gap=41.25),
    ],
    "beats in another interval that a script asked for": [
        scripted(0, "hello", 1, deeds=("hello",)), beat(30, offset=30.0), beat(31, gap=1.0),
    ],
    "ready cannot have come": [
        identify(0), ready(0), close(0.1), identify(9, 2, "b"), ready(9, 2, "b"),
    ],
    "ready cannot have come to a machine that stood still": [
        identify(0), ready(0), held_up(0.5, 0.45), close(0.6), identify(9, 2, "b"),
        ready(9, 2, "b"),
    ],
    "ready was spoiled by a script": [
        identify(0), scripted(0, "ready", 1, shard=SHARD, deeds=("fields",)), ready(0), close(60),
        identify(70, 2, "b"),
    ],
    "resume failed three times": [
        identify(0), ready(0), close(60), resume(61, 2), resume(70, 3), resume(90, 4),
        identify(120, 5, "b"),
    ],
    "kept from its resume host": [
        identify(0), ready(0), close(60), scripted(61, "upgrade", edge="edge-a"),
        identify(90, 2, "b"),
    ],
    "its resume host is down": [
        fault(50, "edge-refuse", connection=None, detail={"edge": "edge-a"}),
        identify(0), ready(0), close(60), identify(90, 2, "b"),
    ],
    "invalid session that cannot have come": [
        identify(0), ready(0), invalid(9), close(9.1), resume(20),
    ],
    "invalid session that cannot have come to a machine that stood still": [
        identify(0), ready(0), invalid(9), held_up(9.5, 0.45), close(9.6), resume(20),
    ],
    "resumes from what its consumer took": [
        identify(0), ready(0), beat(20, offset=20.0, session="a", shard=SHARD, seq=7), close(60),
        resume(61, seq=5), resumed(61),
    ],
    "two connections, of which one is half-open": [
        ready(0), fault(5, "mute-connection"), ready(10, 2, "b"), close(30),
    ],
    "ten dials a minute": dials(range(0, 600, 6), shard=3)(),
    "hung up on hello a few times": dials(range(0, 50, 10))(),
    "shut down while all wait": [
        *(opened(0, number) for number in range(5)),
        *(close(1, number, by="client", authenticated=False, shard=None) for number in range(5)),
    ],
    "killed while it identified": [
        record
        for number in range(5)
        for record in (
            identify(30 * number, number, f"{number}"), close(30 * number + 1, number, f"{number}"),
            end(30 * number + 1, "no-ready", f"{number}"),
        )
    ],
    "late, as the simulator was": [
        beat(30, offset=30.0), held_up(75, 4), beat(75.1, gap=45.1),
    ],
    "in time, after one that was read late": [
        beat(30, offset=30.0), beat(75, gap=45.0), held_up(75, 4), beat(112.5, gap=37.5),
    ],
    "late first beat, as the simulator was": [held_up(43, 2), beat(43.2, offset=43.2)],
    "late answer, as the simulator was": [beat(30, offset=30.0, requested=1.5), held_up(30, 1)],
    "jitter, of which a third was read late": [
        held_up(0.0, 12), *crowd(lambda number: max(12.0, number * 0.4125)),
    ],
    "identified in time, after one that was read late": [
        held_up(9, 0.8), identify(9.1), end(10), identify(13.5, 2, "b", gap=4.4),
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
        {"O-12"},
        [identify(0), ready(0), close(9, by="client", code=1000), end(9, "client-closed"),
         identify(20, 2, "b")],
    ),
    "identified beside its living session, then dropped that": (
        {"O-05"}, [identify(0), ready(0), identify(60, 2, "b"), ready(60, 2, "b"), close(60.5)],
    ),
    "resumed a session that is not its own": (
        {"O-05"},
        [identify(0), ready(0), close(9), end(10), identify(20, 2, "b"), ready(20, 2, "b"),
         close(60, 2, "b"), resume(61, 3, "a")],
    ),
    "resumed from a sequence that was never sent": (
        {"O-05"}, [ledger.Violation(rule="invalid-seq", text="")],
    ),
    "identified when its resume host was back long ago": (
        {"O-05"},
        [fault(50, "edge-refuse", connection=None, detail={"edge": "edge-a"}),
         fault(55, "edge-back", connection=None, detail={"edge": "edge-a"}),
         identify(0), ready(0), close(60), identify(90, 2, "b")],
    ),
    "hung up on its own identify": (
        {"O-03"},
        [record
         for number in range(6)
         for record in (
             identify(30 * number, number, f"{number}"),
             close(30 * number + 1, number, f"{number}"),
             end(30 * number + 1, "no-ready", f"{number}"),
         )],
    ),
    "eleven dials a minute": ({"O-08"}, dials(range(0, 55, 5), shard=3)()),
    "dials that name no shard": ({"O-08"}, dials(range(0, 55, 5))()),
    "hung up on hello, if slowly": ({"O-08"}, dials(range(0, 180, 30))()),
    "budget spent": ({"O-03"}, [ledger.Violation(rule="budget-exhausted", text="")]),
    "identify on a resume host": (
        {"O-04"}, [ledger.Violation(rule="identify-on-resume-host", text="")],
    ),
    "identify instead of resume": (
        {"O-05"}, [identify(0), ready(0), close(60), identify(70, 2, "b")],
    ),
    "identify instead of resume, long after a pause": (
        {"O-05"}, [identify(0), ready(0), held_up(0.5, 0.45), close(1), identify(9, 2, "b")],
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
    "later than the simulator was": (
        {"O-11"}, [beat(30, offset=30.0), held_up(75, 4), beat(78, gap=48.0)],
    ),
    "late, and the simulator was before": (
        {"O-11"}, [held_up(29, 4), beat(30, offset=30.0), beat(74, gap=44.0)],
    ),
    "late, and the simulator was afterwards": (
        {"O-11"}, [beat(30, offset=30.0), beat(74, gap=44.0), held_up(80, 4)],
    ),
    "sooner than the simulator was late": (
        {"O-01"}, [held_up(9, 0.8), identify(9.1), end(10), identify(13, 2, "b", gap=3.9)],
    ),
    "late beat": ({"O-11"}, [beat(30, offset=30.0), beat(74, gap=44.0)]),
    "early beat": ({"O-11"}, [beat(30, offset=30.0), beat(68, gap=38.0)]),
    "late first beat": ({"O-11"}, [beat(42, offset=42.0)]),
    "late answer": ({"O-11"}, [beat(30, offset=30.0, requested=1.5)]),
    "no beat": ({"O-11"}, [ledger.Violation(rule="heartbeat-missed", text="")]),
    "no jitter": ({"O-11"}, crowd(lambda number: 41.25)),
    "no jitter, and the simulator was a little late": (
        {"O-11"}, [held_up(0.0, 1), *crowd(lambda number: 1.0)],
    ),
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
    later = [msgspec.structs.replace(record, n=n) for n, record in enumerate(records, 11)]
    (verdict,) = judge(later, Limits(), now=80)
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


@pytest.mark.parametrize("seq", [7, 9])
def test_who_declares_received_resumes_from_what_its_heartbeats_named(seq: int) -> None:
    received = Limits(resume_from="received")
    records = [
        ready(0),
        beat(20, offset=20.0, session="a", shard=SHARD, seq=9),
        close(60, by="server", code=4000),
        resume(61, seq=seq),
    ]
    assert violated(records, limits=received) == ({"O-05"} if seq < 9 else set())
    killed = [*records[:2], close(60), records[3]]
    assert violated(killed, limits=received) == set()


def test_buckets_out_of_order_are_bad_manners_only() -> None:
    records = [identify(5 * n, n, f"{n}", shard=(shard, 4)) for n, shard in enumerate((0, 2, 1, 3))]
    assert violated(records) == set()
    assert violated(records, claims=Claims(soft=True)) == {"O-02"}
    pairs = Limits(max_concurrency=2)
    assert violated(records, limits=pairs, claims=Claims(soft=True)) == {"O-02"}
    assert violated(records, limits=Limits(max_concurrency=4), claims=Claims(soft=True)) == set()
    in_order = [identify(5 * n, n, f"{n}", shard=(n, 4)) for n in range(4)]
    assert violated(in_order, claims=Claims(soft=True)) == set()


def test_budget_less_the_reserve_is_for_identifies() -> None:
    records = [identify(9 * n, n, f"{n}", shard=(n, 100)) for n in range(10)]
    assert violated(records, limits=Limits(budget=20, reserve=10)) == set()
    assert violated(records, limits=Limits(budget=20, reserve=11)) == {"O-03"}
    assert violated(records, limits=Limits(budget=9, budget_period=81.0)) == set()


def test_fleet_is_bounded_if_a_bound_is_named() -> None:
    records = [
        record
        for shard in range(30)
        for record in (opened(shard, shard), of_shard(resumed(shard, shard), shard))
    ]
    assert violated(records) == set()
    assert violated(records, limits=Limits(fleet_dials=29)) == {"O-08"}


def test_bots_are_judged_apart() -> None:
    """The same shards of another token are nobody's double, and its 4004 not everybody's."""

    def of(bot: int, record: Record) -> Record:
        return msgspec.structs.replace(record, bot=bot)

    records = [
        opened(0, 1), of(0, identify(0)), of(0, ready(0)),
        opened(1, 2), of(1, identify(1, 2, "b")), of(1, ready(1, 2, "b")),
        of(1, close(50, 2, "b", by="server", code=4004)),
        of(0, close(60)), opened(61, 3), of(0, resume(61, 3)), of(0, resumed(61, 3)),
    ]  # fmt: skip
    assert violated(records) == set()
    again = [*records, opened(90, 4), of(1, resume(90, 4, "b"))]
    (verdict,) = verdicts(again)
    assert (verdict.oracle, verdict.bot) == ("O-07", 1)


def test_compressed_time_forgives_what_it_magnifies() -> None:
    records = [identify(0), end(1), identify(4.7, 2, "b", gap=4.7)]
    assert violated(records) == {"O-01"}
    assert violated(records, limits=Limits(time_factor=0.05)) == set()
    early = [identify(0), end(1), identify(4, 2, "b", gap=4.0)]
    assert violated(early, limits=Limits(time_factor=0.05)) == {"O-01"}


def test_recovery_is_timed_by_what_ended_the_connection() -> None:
    records: list[Record] = []
    for number in range(100):
        begin = 100.0 * number
        records += [ready(begin, 2 * number, f"{number}"), close(begin + 1, 2 * number)]
        if number == 99:
            records.insert(-1, ledger.Reconnect(time=begin, connection=2 * number, shard=SHARD))
        records += [resumed(begin + 1 + number / 10, 2 * number + 1, f"{number}")]
    (report,) = report_all(numbered(records))
    tcp, op7 = sorted(report.recoveries, key=lambda recovery: recovery.cause, reverse=True)
    assert (tcp.cause, tcp.count, op7.cause, op7.count) == ("tcp", 99, "op7", 1)
    assert [tcp.p50, tcp.p99, op7.most] == pytest.approx([4.9, 9.8, 9.9])


def test_recovery_is_judged_if_a_bound_is_named() -> None:
    records = [ready(0), close(60), resumed(70)]
    assert violated(records) == set()
    assert violated(records, limits=Limits(recovery=10.0)) == set()
    assert violated(records, limits=Limits(recovery=9.0)) == {"O-14"}


def test_report_counts_identifies_and_lost_sessions() -> None:
    records = [identify(0), end(9), identify(14, 2, "b", gap=14.0), end(20, "invalidated", "b")]
    (report,) = report_all(numbered(records))
    assert (report.identifies, report.lost) == (2, {"expired": 1, "invalidated": 1})
    assert report.gaps is not None
    assert (report.gaps.least, report.gaps.p1) == (14.0, 14.0)


def test_all_shards_must_come_back_when_faults_have_ended() -> None:
    both = [
        record
        for shard in range(2)
        for record in (
            of_shard(identify(0, shard), shard, 2),
            of_shard(ready(0, shard), shard, 2),
            of_shard(close(60, shard), shard, 2),
        )
    ]
    back = [*both, of_shard(resume(80, 7), 0, 2), of_shard(resumed(80, 7), 0, 2)]
    calm = Claims(calm_since=70.0, within=30.0)
    assert violated(back, claims=calm, now=99.0) == set()
    (verdict,) = verdicts(back, claims=calm, now=101.0)
    assert verdict.oracle == "O-18"
    assert "(1, 2)" in verdict.text
    all_back = [*back, of_shard(resumed(99, 8), 1, 2)]
    assert violated(all_back, claims=calm, now=101.0) == set()
    named = Claims(calm_since=70.0, within=30.0, shards=[(0, 2)])
    assert violated(back, claims=named, now=101.0) == set()


HEALTH: dict[str, tuple[bool | None, list[Record]]] = {
    "ready": (True, [ready(50)]),
    "gone": (False, [ready(0), close(50)]),
    "told that its session is invalid": (False, [ready(0), invalid(50)]),
    "beats are acknowledged": (True, [ready(0), beat(40, offset=1.0), beat(80, gap=40.0)]),
    "beats are not acknowledged": (
        False, [ready(0), beat(40, acknowledged=False), beat(80, acknowledged=False)],
    ),
    "ended a moment ago": (None, [ready(0), close(99.5)]),
    "began a moment ago": (None, [resumed(99.5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTH)
@pytest.mark.parametrize("says", [True, False])
def test_health_is_what_the_simulator_sees(name: str, says: bool) -> None:
    """None: it just changed, and either answer is right."""
    truth, records = HEALTH[name]
    claims = Claims(healthy=[SHARD] if says else [])
    expected = set() if truth in (None, says) else {"O-17"}
    assert violated(records, claims=claims, now=100.0) == expected


def test_long_ledgers_are_judged_in_seconds() -> None:
    """A thousand shards, each with a thousand heartbeats, and a drop in each ten."""
    records: list[Record] = []
    for shard in range(1000):
        name, spread = f"s{shard}", 41.25 * (shard * 0.618 % 1)
        records += [
            opened(0, shard),
            of_shard(identify(0, shard, name, gap=5.0), shard, 1000),
            of_shard(ready(0, shard, name), shard, 1000),
        ]
        records += [
            of_shard(beat(spread + 41.25 * n, shard, offset=None if n else spread), shard, 1000)
            for n in range(1000)
        ]
    records.sort(key=lambda record: record.time)
    million = numbered(records)
    begin = process_time()
    assert judge(million, Limits(), now=41_260.0) == []
    assert process_time() - begin < 20
