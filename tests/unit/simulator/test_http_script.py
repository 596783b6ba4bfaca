# SPDX-License-Identifier: Apache-2.0
"""Scripted answers to GET /gateway/bot, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import AnyDeed, Body, Delay, Fields, Hang, Reset, SlowBody, Status
from discluster.simulator.script import At
from discluster.simulator.settings import DEFAULT_TOKEN
from tests.unit.simulator.conftest import Rig, StartRig

HEADERS = {"Authorization": f"Bot {DEFAULT_TOKEN}"}


async def ask(rig: Rig, path: str = "/gateway/bot") -> tuple[aiohttp.ClientResponse, bytes]:
    async with rig.dialer.http.get(rig.simulator.api + path, headers=HEADERS) as response:
        return response, await response.read()


async def asked(rig: Rig, deed: AnyDeed) -> tuple[aiohttp.ClientResponse, bytes]:
    await rig.control.script("http", deed)
    return await ask(rig)


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 502, 503, 504, 524])
@pytest.mark.parametrize("html", [False, True])
async def test_any_status(start: StartRig, code: int, html: bool) -> None:
    rig = await start()
    response, body = await asked(rig, Status(code=code, html=html))
    assert response.status == code
    assert response.content_type == ("text/html" if html else "application/json")
    assert ("Via" in response.headers) is not html
    assert body.startswith(b"<") is html
    (record,) = await rig.control.ledger(kinds=["http"])
    assert isinstance(record, ledger.Http)
    assert (record.status, record.bot) == (code, 0)
    assert (await ask(rig))[0].status == 200


@pytest.mark.parametrize("retry_after", [None, "0", "1.25", "99999999999", "soon", ""])
async def test_rate_limit_with_any_retry_after(start: StartRig, retry_after: str | None) -> None:
    rig = await start()
    response, _ = await asked(rig, Status(code=429, retry_after=retry_after))
    assert response.headers.get("Retry-After") == retry_after
    answer = await response.json()
    known = retry_after in ("0", "1.25", "99999999999")
    assert answer.get("retry_after") == (float(retry_after or 0) if known else None)


async def test_other_paths_are_left_alone(start: StartRig) -> None:
    rig = await start()
    await rig.control.script(At(point="http", times=None), Status(code=500))
    assert (await ask(rig, "/gateway"))[0].status == 200
    assert (await ask(rig, "/users/@me"))[0].status == 200


async def test_never_answered(start: StartRig) -> None:
    rig = await start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked(rig, Hang()), 0.1)
    (record,) = await rig.control.ledger(kinds=["http"])
    assert isinstance(record, ledger.Http)
    assert record.status == 0


async def test_reset_instead_of_an_answer(start: StartRig) -> None:
    rig = await start()
    await rig.control.script(At(point="http", times=None), Reset())
    with pytest.raises(aiohttp.ClientError):
        await ask(rig)


async def test_late_answer(start: StartRig) -> None:
    rig = await start(time_factor=0.01)
    begin = asyncio.get_running_loop().time()
    assert (await asked(rig, Delay(seconds=10)))[0].status == 200
    assert asyncio.get_running_loop().time() - begin >= 0.1


async def test_body_comes_byte_by_byte(start: StartRig) -> None:
    rig = await start(time_factor=0.001)
    _, whole = await ask(rig)
    begin = asyncio.get_running_loop().time()
    response, body = await asked(rig, SlowBody(seconds=1))
    assert (response.status, body) == (200, whole)
    assert asyncio.get_running_loop().time() - begin >= 0.001 * len(whole)


@pytest.mark.parametrize("text", ["<html>maintenance</html>", '{"url":', "", "[]", "null"])
async def test_any_body(start: StartRig, text: str) -> None:
    rig = await start()
    response, body = await asked(rig, Body(text=text, content_type="text/html"))
    assert (response.status, body.decode()) == (200, text)


async def test_truncated_body(start: StartRig) -> None:
    rig = await start()
    await rig.control.script(At(point="http", times=None), Body(text='{"url":"ws://x"}', cut=True))
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(rig)


@pytest.mark.parametrize("value", [None, 0, 10**12, "x", {}])
async def test_fields_are_overridden(start: StartRig, value: Any) -> None:
    rig = await start()
    response, _ = await asked(rig, Fields(set={"session_start_limit": value, "url": "x/"}))
    answer = await response.json()
    assert answer == {"url": "x/", "shards": 4, "session_start_limit": value}


async def test_single_limits_are_overridden_and_removed(start: StartRig) -> None:
    rig = await start()
    deed = Fields(
        set={"session_start_limit.max_concurrency": 0, "shards": 0},
        remove=("session_start_limit.reset_after",),
    )
    response, _ = await asked(rig, deed)
    answer = await response.json()
    assert answer["shards"] == 0
    assert answer["session_start_limit"] == {"total": 1000, "remaining": 1000, "max_concurrency": 0}


async def test_a_hanging_request_does_not_keep_the_simulator_from_ending(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("http", Hang())
    waiting = asyncio.create_task(ask(rig))
    await rig.control.wait_for_record(lambda record: record.kind == "http", 5)
    async with asyncio.timeout(5):
        await rig.simulator.__aexit__(None, None, None)
    with pytest.raises(aiohttp.ClientError):
        await waiting
