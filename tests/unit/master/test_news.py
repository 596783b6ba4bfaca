# SPDX-License-Identifier: Apache-2.0
"""Which reports make MASTER look at the fleet anew, and how its loops rest."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.console import IdentifyStatus
from discluster.master.hosts.book import HostBook, HostConnection
from discluster.master.hosts.news import gist
from discluster.master.rhythm import rest
from discluster.master.sentence import state_in_words
from discluster.messages import HostReport
from discluster.plan import IdentifySlots, Session
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.fleets import report

SESSION = Session(session_id="s", resume_url="wss://gateway.discord.gg", seq=7)
BASE = report(3, [0, 1])


def of_shards(base: HostReport, **changed: Any) -> HostReport:
    (cluster, *rest) = base.clusters
    shards = tuple(msgspec.structs.replace(shard, **changed) for shard in cluster.shards)
    return msgspec.structs.replace(
        base, clusters=(msgspec.structs.replace(cluster, shards=shards), *rest)
    )


def of_cluster(base: HostReport, **changed: Any) -> HostReport:
    (cluster, *rest) = base.clusters
    return msgspec.structs.replace(
        base, clusters=(msgspec.structs.replace(cluster, **changed), *rest)
    )


@pytest.mark.parametrize(
    "after",
    [
        of_shards(BASE, latency=0.5, since=99.0, event_age=3.0, events=10**6, seq=12, guilds=900),
        of_cluster(BASE, uptime=99.0, cpu=0.7, memory=10**9, event_rate=55.0),
        msgspec.structs.replace(BASE, summary="2 clusters run"),
    ],
    ids=["shards", "cluster", "summary"],
)
def test_figures_alone_are_no_news(after: HostReport) -> None:
    assert gist(after).footing == gist(BASE).footing


@pytest.mark.parametrize(
    "after",
    [
        msgspec.structs.replace(BASE, plan_generation=4),
        msgspec.structs.replace(BASE, holding=(0,)),
        msgspec.structs.replace(BASE, released={5: SESSION}),
        msgspec.structs.replace(BASE, entered={5: 2}),
        msgspec.structs.replace(BASE, shard_count=8),
        msgspec.structs.replace(BASE, problems=("no disk",)),
        msgspec.structs.replace(BASE, rejected="the token"),
        msgspec.structs.replace(BASE, slots=IdentifySlots(slot=1, slots=2)),
        msgspec.structs.replace(BASE, leaving=True),
        msgspec.structs.replace(BASE, witness="127.0.0.1:1"),
        msgspec.structs.replace(BASE, panel=("a",)),
        of_cluster(BASE, unit="failed"),
        of_cluster(BASE, connected=not BASE.clusters[0].connected),
        of_cluster(BASE, generation=99),
        of_cluster(BASE, run=99),
        of_cluster(BASE, restarts=99),
        of_cluster(BASE, problem="unit failed"),
        of_cluster(BASE, shards=()),
        of_shards(BASE, state="backoff"),
        of_shards(BASE, problem="no route"),
        of_shards(BASE, state="fatal", fatal=4004),
        msgspec.structs.replace(BASE, clusters=()),
    ],
)
def test_what_decisions_rest_on_is_news(after: HostReport) -> None:
    assert gist(after).footing != gist(BASE).footing


def connected(book: HostBook, host: str, first: HostReport = BASE) -> HostConnection:
    connection = HostConnection(host, close=lambda reason: None)
    book.connect(connection, "1", first)
    return connection


def test_book_counts_news_and_not_figures() -> None:
    book = HostBook(clock=ManualClock())
    alpha = connected(book, "alpha")
    before = book.news
    assert not book.reported(alpha, of_shards(BASE, latency=0.7))
    assert book.news == before
    assert book.reported(alpha, of_shards(BASE, state="backoff"))
    assert book.news == before + 1
    stale = HostConnection("alpha", close=lambda reason: None)
    assert not book.reported(stale, of_shards(BASE, state="fatal", fatal=4004))
    assert book.rejection is None
    book.disconnect(alpha)
    assert book.news == before + 2


def test_rejection_names_the_first_host_and_ends_with_its_report() -> None:
    book = HostBook(clock=ManualClock())
    rejected = of_shards(BASE, state="fatal", fatal=4004, problem="badly")
    beta = connected(book, "beta", rejected)
    connected(book, "alpha")
    assert book.rejection == "on beta, shard 0 was rejected: badly"
    book.reported(beta, BASE)
    assert book.rejection is None


def test_tally_counts_shards_where_hosts_are_there_and_those_that_are_away() -> None:
    book = HostBook(clock=ManualClock())
    connected(book, "alpha")
    beta = connected(book, "beta", report(3, [2, 3, 4]))
    gone = connected(book, "gone", msgspec.structs.replace(report(3, [5]), leaving=True))
    book.disconnect(beta)
    book.goodbye(gone)
    book.disconnect(gone)
    states, away = book.tally()
    assert states == {"ready": 2}
    assert away == 3


def test_state_names_what_is_not_ready() -> None:
    states = gist(of_shards(report(3, [0, 1, 2]), state="resuming")).states + gist(BASE).states
    words = state_in_words(
        states, count=8, ready=2, away=1, identify=IdentifyStatus(), waiting="waiting for gamma"
    )
    assert words == (
        "2 of 8 shards ready; 3 resuming, 1 on hosts out of touch, 2 not running; waiting for gamma"
    )


@pytest.mark.parametrize(("took", "rested"), [(0.0, 0.0), (0.05, 0.2), (0.25, 1.0), (7.0, 1.0)])
async def test_loop_rests_four_times_as_long_as_it_worked_but_no_longer_than_a_second(
    took: float, rested: float
) -> None:
    clock = ManualClock()
    began = clock.monotonic()
    clock.jump(took)
    resting = asyncio.create_task(rest(began, clock=clock))
    await clock.advance(max(0.0, rested - 0.01))
    assert resting.done() is (rested == 0.0)
    await clock.advance(0.02)
    assert resting.result() == pytest.approx(rested)


async def test_report_of_figures_costs_no_pass_and_any_other_does(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Running(tmp_path, settings("alpha"), Discord(answer()), clock) as run:
        alpha = run.connect("alpha", BASE)
        await run.after()
        passes = len(run.notifier.told)
        alpha.say(of_shards(BASE, latency=0.7))
        await run.after()
        assert len(run.notifier.told) == passes
        alpha.say(of_shards(BASE, state="backoff"))
        await run.after()
        assert len(run.notifier.told) > passes
