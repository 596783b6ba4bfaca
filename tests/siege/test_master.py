# SPDX-License-Identifier: Apache-2.0
"""MASTER under attack: its memory is bounded, and honest hosts and operators notice nothing."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from discluster import places
from discluster.control.identity import Identity
from discluster.control.joining import join as join_fleet
from tests.scenario.processes import run
from tests.siege.honest import honest_host
from tests.siege.scene import LEASE, Scene, Watched, scene
from tests.waiting import wait_for

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

# MB; see docs/limits.md.
MOST_FOR_STRANGERS = 200.0
MOST_FOR_A_HOST = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scene(tmp_path_factory.mktemp("siege")) as made:
        yield made


def unaffected(watched: Watched, *, most: float) -> None:
    """``most``: MB that MASTER may use more than before."""
    assert watched.dials == 0, "an honest host lost its connection"
    assert max(watched.pong, watched.permit, watched.status) < LEASE / 2
    assert watched.permits >= 3
    assert watched.peak - watched.before < most


@pytest.mark.parametrize("kind", ["tcp-silent", "tcp-half-hello", "tcp-garbage"])
async def test_strangers_without_tls_keep_nobody_out(besieged: Scene, kind: str) -> None:
    watched = await besieged.besiege(kind, connections=3000)
    unaffected(watched, most=MOST_FOR_STRANGERS)


@pytest.mark.parametrize(
    "kind", ["tls-silent", "tls-slow-headers", "tls-slow-body", "tls-zip-bomb", "tls-upgrade"]
)
async def test_strangers_with_tls_keep_nobody_out(besieged: Scene, kind: str) -> None:
    watched = await besieged.besiege(kind, connections=1000, attempts=1000)
    unaffected(watched, most=MOST_FOR_STRANGERS)


@pytest.mark.parametrize(
    "kind",
    [
        "host-without-hello",
        "host-slow-hello",
        "host-huge-hello",
        "host-deaf",
        "host-floods",
        "host-websocket-pings",
        "host-replaces-itself",
    ],
)
async def test_host_that_is_hostile_hurts_itself_only(besieged: Scene, kind: str) -> None:
    many = kind in ("host-without-hello", "host-slow-hello", "host-replaces-itself")
    watched = await besieged.besiege(
        kind,
        connections=500 if many else 20,
        attempts=500 if many else 20,
        certificate=besieged.certificate(12),
    )
    unaffected(watched, most=MOST_FOR_A_HOST)


async def test_new_host_joins_and_operator_is_answered_while_strangers_hold_all_they_can(
    besieged: Scene, tmp_path: Path
) -> None:
    async def join() -> float:
        began = time.monotonic()
        token = await besieged.token("newcomer")
        identity = Identity(tmp_path / "identity")
        await join_fleet(
            identity,
            master=besieged.url,
            token=token.token,
            ca_fingerprint=re.findall(r"sha256:[0-9a-f]{64}", token.command)[0],
            host="newcomer",
            wall=time.time,
        )
        context = identity.ssl_context("newcomer", now=time.time())
        async with honest_host(besieged.url, context) as host:
            took = time.monotonic() - began
            await wait_for(lambda: host.plan and host.plan.clusters, 20, what="shards")
            socket = str(places.master_socket(besieged.directory / "run"))
            status = await run("discluster.ctl.main", "--socket", socket, "status")
        assert "newcomer" in status.stdout, status.stderr
        return took

    joining = asyncio.create_task(join())
    watched = await besieged.besiege("tls-slow-headers", connections=1000, attempts=0, seconds=8)
    assert await joining < LEASE
    unaffected(watched, most=MOST_FOR_STRANGERS)
    assert "turned away, of too many at once" in await besieged.log()
