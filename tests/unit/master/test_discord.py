# SPDX-License-Identifier: Apache-2.0
"""The one call to Discord against a real server on loopback, and when it is made."""

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, web

from discluster.errors import DiscordError, UnavailableError
from discluster.master import discord as module
from discluster.master.desk import DiscordDesk
from discluster.master.discord import RetryLaterError, fetch_gateway_bot
from discluster.master.identify.budget import Budget
from discluster.master.records.events import EventLog
from discluster.master.store import MasterStore
from discluster.secret import Secret
from tests.clock import ManualClock
from tests.fuzz.contract import within
from tests.unit.master.fakes import Discord, answer, settings
from tests.unit.master.fleets import GATEWAY

TOKEN = Secret("very-secret-token")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]
GOOD = {
    "url": "wss://gateway.discord.gg/",
    "shards": 9,
    "session_start_limit": {
        "total": 1000,
        "remaining": 999,
        "reset_after": 14_400_000,
        "max_concurrency": 16,
    },
}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a Discord that answers ``GET /gateway/bot`` as told; gives its address."""
    runners = []

    async def start(answering: Answer) -> str:
        application = web.Application()
        application.router.add_get("/api/gateway/bot", answering)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/api"

    yield start
    for runner in runners:
        await runner.cleanup()


def always(response: Callable[[], web.Response]) -> Answer:
    async def answering(_request: web.Request) -> web.Response:
        return response()

    return answering


async def test_the_answer_is_read_and_the_token_is_shown_to_discord_only(serve: Serve) -> None:
    seen: list[web.Request] = []

    async def answering(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(GOOD)

    bot = await fetch_gateway_bot(await serve(answering) + "/", TOKEN)
    assert (bot.shards, bot.session_start_limit.max_concurrency) == (9, 16)
    assert seen[0].headers["Authorization"] == "Bot very-secret-token"
    assert seen[0].headers["User-Agent"].startswith("DiscordBot (https://")


@pytest.mark.covers("F01")
@pytest.mark.parametrize("status", [401, 403])
async def test_a_rejected_token_is_for_good(serve: Serve, status: int) -> None:
    api = await serve(always(lambda: web.json_response({"message": "no"}, status=status)))
    with pytest.raises(DiscordError, match=f"HTTP {status}") as caught:
        await fetch_gateway_bot(api, TOKEN)
    assert "very-secret-token" not in caught.value.render()
    assert "discluster.token" in str(caught.value.hint)


@pytest.mark.covers("F01")
@pytest.mark.parametrize("status", [400, 404, 405])
async def test_address_that_is_not_the_api_is_a_setting_to_mend(serve: Serve, status: int) -> None:
    api = await serve(always(lambda: web.Response(status=status)))
    with pytest.raises(DiscordError, match=f"not Discord's API: HTTP {status}") as caught:
        await fetch_gateway_bot(api, TOKEN)
    assert "discord_api" in str(caught.value.hint)


@pytest.mark.covers("F02", "F03", "T-70")
@pytest.mark.parametrize(
    ("response", "after"),
    [
        (lambda: web.json_response({"retry_after": 6.457}, status=429), 6.457),
        (lambda: web.json_response({"retry_after": 0.1}, status=429), 1.0),
        (lambda: web.json_response({"retry_after": 1e9}, status=429), 3600.0),
        (lambda: web.json_response({"retry_after": None}, status=429), 60.0),
        (lambda: web.json_response([], status=429), 60.0),
        (lambda: web.Response(text="<html>", status=429, headers={"Retry-After": "17"}), 17.0),
        (lambda: web.Response(text="<html>", status=429, headers={"Retry-After": "soon"}), 60.0),
        (lambda: web.Response(text="<html>", status=429, headers={"Retry-After": "nan"}), 60.0),
        (lambda: web.Response(text="oops", status=500), 5.0),
        (lambda: web.Response(text="<html>", status=502), 5.0),
    ],
)
async def test_a_plea_for_patience_is_followed(
    serve: Serve, response: Callable[[], web.Response], after: float
) -> None:
    with pytest.raises(RetryLaterError) as caught:
        await fetch_gateway_bot(await serve(always(response)), TOKEN)
    assert caught.value.after == after


@pytest.mark.covers("F03", "F04")
@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(text="<html>hello</html>"),
        lambda: web.Response(body=b"\xff\xfe"),
        lambda: web.json_response({}),
        lambda: web.json_response(GOOD | {"shards": 0}),
        lambda: web.json_response(GOOD | {"shards": "many"}),
        lambda: web.json_response(GOOD | {"shards": 65_537}),
        lambda: web.json_response(GOOD | {"url": "https://discord.gg"}),
        lambda: web.json_response(GOOD | {"url": "wss://a b"}),
        lambda: web.json_response(GOOD | {"session_start_limit": {"max_concurrency": 0}}),
        lambda: web.json_response(GOOD | {"session_start_limit": {"remaining": -1}}),
        lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        lambda: web.Response(status=409),
        lambda: web.Response(body=b"[" * 2_000_000),
    ],
)
async def test_an_answer_that_makes_no_sense_is_told_with_the_address(
    serve: Serve, response: Callable[[], web.Response]
) -> None:
    api = await serve(always(response))
    with pytest.raises(UnavailableError) as caught:
        await fetch_gateway_bot(api, TOKEN)
    assert not isinstance(caught.value, RetryLaterError)
    assert f"{api}/gateway/bot" in caught.value.message


@pytest.mark.covers("F03")
async def test_nobody_there_and_a_hanging_server_are_told(
    serve: Serve, unused_tcp_port: int
) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        await fetch_gateway_bot(f"http://127.0.0.1:{unused_tcp_port}/api", TOKEN)
    assert "set shard_count" in str(caught.value.hint)

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(UnavailableError, match="no answer in time"):
        await fetch_gateway_bot(await serve(hang), TOKEN, timeout=ClientTimeout(total=0.2))
    assert module.TIMEOUT.total == 20


# --- the desk -------------------------------------------------------------------------------------


def desk(tmp_path: Path, discord: Discord, clock: ManualClock, **fixed: object) -> DiscordDesk:
    return DiscordDesk(
        settings=settings("a", **fixed),
        store=MasterStore(tmp_path),
        fetch=discord.fetch,
        events=EventLog(None, keep=100, clock=clock),
        clock=clock,
        rng=random.Random(1),
    )


async def run_for(made: DiscordDesk, clock: ManualClock, seconds: float) -> None:
    task = asyncio.create_task(made.run(lambda: None))
    await clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_desk_asks_once_an_hour(tmp_path: Path) -> None:
    clock, discord = ManualClock(), Discord(answer(shards=12, max_concurrency=16))
    made = desk(tmp_path, discord, clock)
    assert str(made.waiting_for) == "asking Discord for the recommended shard count"
    await run_for(made, clock, 3500)
    assert discord.asked == 1
    assert (made.shard_count, made.max_concurrency, made.gateway_url) == (12, 16, GATEWAY)
    assert made.waiting_for is None
    assert made.trouble is None
    await run_for(made, clock, 86_400)
    assert 20 <= discord.asked <= 50


@pytest.mark.covers("F03")
async def test_the_desk_asks_less_and_less_often_while_discord_is_away(tmp_path: Path) -> None:
    clock, discord = ManualClock(), Discord(UnavailableError("away"))
    made = desk(tmp_path, discord, clock)
    await run_for(made, clock, 3600)
    assert 12 <= discord.asked <= 35
    assert made.waiting_for == "cannot plan without a shard count: away"
    assert made.trouble is not None


@pytest.mark.covers("F02")
async def test_the_desk_waits_as_long_as_discord_asks(tmp_path: Path) -> None:
    clock, discord = ManualClock(), Discord(RetryLaterError("busy", 500.0))
    await run_for(desk(tmp_path, discord, clock), clock, 499)
    assert discord.asked == 1


@pytest.mark.covers("F28", "T-42")
async def test_the_budget_survives_a_restart_and_counts_every_use(tmp_path: Path) -> None:
    clock, discord = ManualClock(), Discord(answer(remaining=500))
    made = desk(tmp_path, discord, clock)
    await run_for(made, clock, 1)
    resets = clock.wall() - 1 + 3600
    made.ledger.granted([3])
    again = desk(tmp_path, discord, clock)
    assert again.budget == Budget(total=1000, remaining=499, resets_at=resets)
    assert again.recommended == 4


@pytest.mark.covers("T-42")
async def test_the_budget_is_refilled_when_its_time_has_come_and_counted_on(
    tmp_path: Path,
) -> None:
    """Discord cannot be asked for days; the count must go on all the same."""
    clock, discord = ManualClock(), Discord(answer(remaining=500))
    made = desk(tmp_path, discord, clock)
    await run_for(made, clock, 1)
    assert made.budget is not None
    first_reset = made.budget.resets_at
    clock.jump(3600 + 2 * 86_400)
    assert made.budget == Budget(
        total=1000,
        remaining=1000,
        resets_at=first_reset + 3 * 86_400,
        confirmed=False,
        began=first_reset + 2 * 86_400,
    )
    made.ledger.granted(range(7))
    assert made.budget.remaining == 993


async def test_fixed_settings_win(tmp_path: Path) -> None:
    clock, discord = ManualClock(), Discord(answer())
    fixed = {"shard_count": 3, "max_concurrency": 2, "gateway_url": "wss://own.example"}
    made = desk(tmp_path, discord, clock, **fixed)
    assert (made.shard_count, made.max_concurrency) == (3, 2)
    assert made.gateway_url == "wss://own.example"
    assert made.waiting_for is None
    await run_for(made, clock, 1)
    assert (made.shard_count, made.max_concurrency) == (3, 2)
    assert made.recommended == 4


@pytest.mark.covers("T-45")
def test_nobody_but_master_asks_discords_api() -> None:
    """Many who ask at once are answered with 429."""
    package = Path(module.__file__).parents[1]
    asking = [path for path in package.rglob("*.py") if "/gateway/bot" in path.read_text()]
    ours = {path.relative_to(package).as_posix() for path in asking}
    answering = ("simulator/", "cluster/local/")
    others = {name for name in ours if not name.startswith(answering)}
    assert {name for name in others if name.startswith(("gateway", "cluster", "control"))} == set()
    assert "master/discord.py" in others


async def test_answer_that_is_compressed_is_not_unpacked(serve: Serve) -> None:
    """It was not asked for, and a megabyte of it can be a gigabyte."""
    seen: list[web.Request] = []

    async def answering(request: web.Request) -> web.Response:
        seen.append(request)
        bomb = gzip.compress(b" " * (32 << 20))
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    with within(cpu=5, mebibytes=40), pytest.raises(UnavailableError, match="cannot be read"):
        await fetch_gateway_bot(await serve(answering), TOKEN)
    assert seen[0].headers["Accept-Encoding"] == "identity"
