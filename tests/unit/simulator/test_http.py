# SPDX-License-Identifier: Apache-2.0
"""The simulated HTTP API."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from discluster.simulator.settings import DEFAULT_TOKEN
from tests.unit.simulator.conftest import Rig, StartRig

GOOD = {"Authorization": f"Bot {DEFAULT_TOKEN}"}


async def get(
    rig: Rig, path: str, headers: dict[str, str] | None = None
) -> tuple[aiohttp.ClientResponse, Any]:
    """Response and body of a request to the API."""
    url = rig.simulator.api.removesuffix("/v10") + path
    async with rig.dialer.http.get(url, headers=headers) as response:
        json = response.headers["Content-Type"] == "application/json"
        return response, await (response.json() if json else response.text())


async def test_gateway_bot_tells_url_shards_and_budget(start: StartRig) -> None:
    rig = await start(shards=8, max_concurrency=16)
    response, body = await get(rig, "/v10/gateway/bot", GOOD)
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert "Via" in response.headers
    assert body == {
        "url": rig.simulator.gateway_url,
        "shards": 8,
        "session_start_limit": {
            "total": 1000,
            "remaining": 1000,
            "reset_after": 0,
            "max_concurrency": 16,
        },
    }
    await rig.ready()
    _, body = await get(rig, "/v10/gateway/bot", GOOD)
    limit = body["session_start_limit"]
    assert limit["remaining"] == 999
    assert 86_000_000 < limit["reset_after"] <= 86_400_000


@pytest.mark.parametrize(
    "authorization",
    ["", DEFAULT_TOKEN, f"Bearer {DEFAULT_TOKEN}", "Bot wrong", f"bot {DEFAULT_TOKEN}"],
)
@pytest.mark.parametrize("path", ["/gateway/bot", "/users/@me", "/oauth2/applications/@me"])
async def test_wrong_authorization_is_401(start: StartRig, authorization: str, path: str) -> None:
    rig = await start()
    response, body = await get(rig, "/v10" + path, {"Authorization": authorization})
    assert response.status == 401
    assert body == {"message": "401: Unauthorized", "code": 0}


async def test_urls_use_the_advertised_name(start: StartRig) -> None:
    rig = await start(trailing_slash=True, advertise="localhost")
    _, body = await get(rig, "/v10/gateway")
    assert body["url"].startswith("ws://localhost:")
    assert body["url"].endswith("/")
    assert rig.simulator.api.startswith("http://localhost:")


async def test_who_am_i(start: StartRig) -> None:
    rig = await start()
    assert (await get(rig, "/v10/users/@me", GOOD))[1]["bot"] is True
    assert (await get(rig, "/v10/oauth2/applications/@me", GOOD))[1]["id"]
    response, body = await get(rig, "/v10/guilds/1", GOOD)
    assert response.status == 404
    assert body == {"message": "404: Not Found", "code": 0}


@pytest.mark.parametrize(("version", "status"), [(3, 400), (5, 400), (9, 200), (10, 200)])
async def test_versions(start: StartRig, version: int, status: int) -> None:
    rig = await start()
    response, _ = await get(rig, f"/v{version}/gateway/bot", GOOD)
    assert response.status == status
    assert (await rig.oracles() == {"STRICT"}) == (version == 9)


async def test_the_third_call_in_five_seconds_is_429(start: StartRig) -> None:
    rig = await start(gateway_bot_limit=2, time_factor=0.1)
    statuses = [(await get(rig, "/v10/gateway/bot", GOOD))[0].status for _ in range(2)]
    response, body = await get(rig, "/v10/gateway/bot", GOOD)
    assert statuses == [200, 200]
    assert response.status == 429
    assert response.headers["X-RateLimit-Scope"] == "user"
    assert response.headers["Retry-After"] == "1"
    assert 0 < body["retry_after"] <= 0.5
    await asyncio.sleep(body["retry_after"] + 0.005)
    assert (await get(rig, "/v10/gateway/bot", GOOD))[0].status == 200


async def test_many_invalid_requests_ban_everybody(start: StartRig) -> None:
    rig = await start(invalid_request_limit=3)
    for _ in range(3):
        assert (await get(rig, "/v10/gateway/bot"))[0].status == 401
    response, body = await get(rig, "/v10/gateway/bot", GOOD)
    assert response.status == 429
    assert "Via" not in response.headers
    assert "1015" in body


async def test_user_agent_is_noted_or_required(start: StartRig) -> None:
    lenient, strict = await start(), await start(require_user_agent=True)
    bad = {**GOOD, "User-Agent": "curl/8"}
    assert (await get(lenient, "/v10/gateway/bot", bad))[0].status == 200
    assert await lenient.oracles() == {"STRICT"}
    assert (await get(strict, "/v10/gateway/bot", bad))[0].status == 403
    assert (await get(strict, "/v10/gateway/bot", GOOD))[0].status == 200
