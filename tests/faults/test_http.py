# SPDX-License-Identifier: Apache-2.0
"""MASTER's only request to Discord, against the simulated Discord's HTTP: F01 to F05."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discluster.master.desk import DiscordDesk
from discluster.master.discord import GatewayBot, RetryLaterError, fetch_gateway_bot
from discluster.master.records.events import EventLog
from discluster.master.store import MasterStore
from discluster.secret import Secret
from discluster.simulator import ledger
from discluster.simulator.deeds import Body, Fields, Hang, HttpDeed, Reset, SlowBody, Status
from tests.faults.loop import LoopClock, simulated
from tests.faults.scene import Scene
from tests.faults.stage import Stage
from tests.unit.master.fakes import settings


class Asking:
    """MASTER's desk while it asks the simulated Discord."""

    def __init__(self, stage: Stage, token: str, directory: Path) -> None:
        self.stage = stage
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self._token = Secret(token)
        self.desk = DiscordDesk(
            settings=settings("a"),
            store=MasterStore(directory),
            fetch=self._fetch,
            events=EventLog(None, keep=100, clock=LoopClock()),
            clock=LoopClock(),
            rng=random.Random(1),
        )

    async def _fetch(self) -> GatewayBot:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await fetch_gateway_bot(self.stage.simulator.api, self._token)
        finally:
            self.at_once -= 1

    def times(self) -> list[float]:
        """When requests arrived at Discord, in its seconds."""
        return [record.time for record in self.stage.records(ledger.Http)]

    async def knows(self, timeout: float) -> None:
        """MASTER has an answer that it can plan with."""
        await self.stage.until(lambda: self.desk.waiting_for is None, timeout)
        assert self.most_at_once == 1


@asynccontextmanager
async def asking(
    scene: Scene,
    tmp_path: Path,
    *deeds: HttpDeed | Reset,
    times: int | None = 1,
    accused: frozenset[str] = frozenset(),
) -> AsyncIterator[Asking]:
    """The desk begins to ask, and meets ``deeds`` so often."""
    async with scene.set(shards=0, recommended=4, heals=False, accused=accused) as stage:
        if deeds:
            await stage.script("http", *deeds, times=times)
        made = Asking(stage, scene.token, tmp_path)
        task = asyncio.create_task(made.desk.run(lambda: None))
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@simulated
@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.covers("F01", "T-09", "O-07")
async def test_refusal_costs_one_request_and_is_told(
    scene: Scene, tmp_path: Path, status: int
) -> None:
    async with asking(scene, tmp_path, Status(code=status), times=None) as master:
        await asyncio.sleep(1800)
        assert len(master.times()) == 1
        assert master.desk.trouble is not None
        assert master.desk.trouble.severity == "error"
        assert f"HTTP {status}" in master.desk.trouble.text
        assert master.desk.trouble.hint


@simulated
@pytest.mark.parametrize("html", [False, True], ids=["discord", "cloudflare"])
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 1, 3),
        ("2.5", 2.5, 5),
        ("65", 65, 70),
        (None, 1, 62),
        ("100000000", 3600, 3605),
        ("soon", 1, 62),
        ("-5", 1, 3),
    ],
)
@pytest.mark.covers("F02", "T-45", "T-70")
async def test_429_is_waited_for_as_long_as_it_says(
    scene: Scene, tmp_path: Path, html: bool, header: str | None, least: float, most: float
) -> None:
    deed = Status(code=429, html=html, retry_after=header)
    async with asking(scene, tmp_path, deed) as master:
        await master.knows(4000)
        first, second = master.times()
        assert least <= second - first <= most


@simulated
@pytest.mark.covers("F02", "T-45", "T-70")
async def test_own_429_of_discord_is_kept_with_durations_not_with_dates(
    scene: Scene, tmp_path: Path
) -> None:
    """Somebody else with the same token has asked just now; dates in headers are ignored."""
    async with asking(scene, tmp_path) as master:
        await master.knows(10)
        await fetch_gateway_bot(master.stage.simulator.api, Secret(scene.token))
        with pytest.raises(RetryLaterError) as caught:
            await fetch_gateway_bot(master.stage.simulator.api, Secret(scene.token))
        assert 1.0 <= caught.value.after <= 6.0
        assert [r.status for r in master.stage.records(ledger.Http)][-1] == 429


@simulated
@pytest.mark.parametrize(
    "deed",
    [
        *(
            Status(code=code, html=html)
            for code in (500, 502, 503, 504, 524)
            for html in (False, True)
        ),
        Hang(),
        Reset(),
        SlowBody(seconds=1.0),
        Body(text="<html>welcome</html>", content_type="text/html"),
        Body(text="{}"),
        Body(text="\x00\x01"),
        Body(text='{"url":"wss://gateway.discord.gg","shards":4}', cut=True),
    ],
    ids=str,
)
@pytest.mark.covers("F03", "T-45")
async def test_trouble_of_discords_is_tried_again_with_pauses(
    scene: Scene, tmp_path: Path, deed: HttpDeed | Reset
) -> None:
    async with asking(scene, tmp_path, deed, times=4) as master:
        await asyncio.sleep(2)
        assert master.desk.waiting_for is not None
        await master.knows(200)
        assert len(master.times()) <= 5
        assert master.desk.trouble is None


@simulated
@pytest.mark.covers("F03")
async def test_outage_of_the_api_is_asked_ever_more_seldom(scene: Scene, tmp_path: Path) -> None:
    async with asking(scene, tmp_path, Reset(), times=None) as master:
        await asyncio.sleep(1800)
        assert 8 <= master.asked <= 25


LIMIT = "session_start_limit"


@simulated
@pytest.mark.parametrize(
    "fields",
    [
        Fields(remove=(LIMIT,)),
        Fields(remove=(f"{LIMIT}.max_concurrency",)),
        Fields(remove=(f"{LIMIT}.reset_after", f"{LIMIT}.total")),
        Fields(set={f"{LIMIT}.reset_after": 0}),
        Fields(set={f"{LIMIT}.remaining": 0}),
        Fields(set={f"{LIMIT}.reset_after": 2**62}),
        Fields(set={"surplus": {"x": [1]}}),
    ],
    ids=str,
)
@pytest.mark.covers("F04", "T-42")
async def test_answer_with_less_or_more_than_usual_is_planned_with(
    scene: Scene, tmp_path: Path, fields: Fields
) -> None:
    async with asking(scene, tmp_path, fields, times=None) as master:
        await master.knows(10)
        desk = master.desk
        assert desk.shard_count == 4
        assert (desk.max_concurrency or 0) >= 1
        budget = desk.budget
        assert budget is not None
        if fields.set.get(f"{LIMIT}.remaining") == 0:
            assert budget.remaining == 0
        await asyncio.sleep(600)
        assert len(master.times()) <= 10


@simulated
@pytest.mark.parametrize(
    "fields",
    [
        Fields(set={LIMIT: None}),
        Fields(set={LIMIT: 0}),
        Fields(set={LIMIT: []}),
        Fields(set={f"{LIMIT}.max_concurrency": 0}),
        Fields(set={f"{LIMIT}.max_concurrency": -1}),
        Fields(set={f"{LIMIT}.remaining": -1}),
        Fields(set={"shards": 0}),
        Fields(set={"shards": 10**9}),
        Fields(set={"shards": None}),
        Fields(set={"url": "https://discord.gg"}),
        Fields(set={"url": ""}),
        Fields(remove=("url",)),
    ],
    ids=str,
)
@pytest.mark.covers("F04", "F05")
async def test_answer_that_nobody_could_plan_with_is_told_and_asked_for_again(
    scene: Scene, tmp_path: Path, fields: Fields
) -> None:
    async with asking(scene, tmp_path, fields, times=3) as master:
        await master.stage.until(lambda: master.desk.trouble is not None, 10)
        assert master.desk.waiting_for is not None
        await master.knows(60)
        assert master.desk.shard_count == 4
        assert len(master.times()) == 4


@simulated
@pytest.mark.parametrize("ending", ["", "/", "/?x=1", "?encoding=etf"])
@pytest.mark.covers("F05", "T-19", "O-04")
async def test_gateway_url_is_joined_with_the_query_whatever_it_ends_with(
    scene: Scene, ending: str
) -> None:
    async with scene.set(ending=ending) as stage:
        await stage.hit(lambda: stage.client.drop("all"))
        for record in stage.records(ledger.Open):
            assert record.query == {"v": "10", "encoding": "json", "compress": "zstd-stream"}


@simulated
@pytest.mark.covers("F05", "F28")
async def test_changed_url_and_lanes_are_learned_within_the_hour(
    scene: Scene, tmp_path: Path
) -> None:
    async with asking(scene, tmp_path) as master:
        await master.knows(10)
        other = {"url": "wss://other.example/path/", f"{LIMIT}.max_concurrency": 2, "shards": 8}
        await master.stage.script("http", Fields(set=other), times=None)
        await master.stage.until(lambda: master.desk.max_concurrency == 2, 3700)
        assert master.desk.gateway_url == "wss://other.example/path"
        assert master.desk.recommended == 8
