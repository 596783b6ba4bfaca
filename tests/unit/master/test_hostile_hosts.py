# SPDX-License-Identifier: Apache-2.0
"""A host of the fleet that means no good, over a real connection: it hurts itself only."""

import asyncio
import json
import time

import pytest

from discluster.master.hosts.outbox import Outbox, longest_message
from discluster.messages import (
    PROTOCOL,
    Goodbye,
    GoodbyeSeen,
    Halt,
    Hello,
    Message,
    PermitReturned,
    Ping,
    PlanPush,
    Pong,
    Rejected,
    Welcome,
    encode,
)
from discluster.plan import host_plan_from_yaml
from tests.slowness import slowness
from tests.unit.master.fleets import report
from tests.unit.master.test_link_and_api import (  # noqa: F401
    PATIENCE,
    Fleet,
    Machine,
    fleet,
)
from tests.waiting import wait_for

HELLO = Hello(protocol=PROTOCOL, version="1", report=report(0))


async def ends(machine: Machine, within: float = PATIENCE) -> None:
    async with asyncio.timeout(within):
        while await machine.hear() is not None:
            pass


def state(fleet: Fleet, host: str) -> str:  # noqa: F811
    return {h.host: h.state for h in fleet.run.master.status().hosts}[host]


@pytest.mark.parametrize(
    "wrong",
    [
        encode(HELLO),
        encode(Welcome(now=0, protocol=PROTOCOL, version="1", ping_interval=1, lease=1)),
        encode(PlanPush(generation=1, sha256="", text="")),
        encode(Halt(reason="because")),
        b"",
        b"[" * 1000,
        b'{"type":"ping","number":1}' * 2,
        json.dumps({"type": "host_report", "plan_generation": "x"}).encode(),
    ],
    ids=["hello twice", "welcome", "plan", "halt", "nothing", "nested", "two", "wrong type"],
)
async def test_message_that_is_not_its_turn_ends_that_connection_only(
    fleet: Fleet,  # noqa: F811
    wrong: bytes,
) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    await alpha.say(wrong)
    await ends(alpha)
    await wait_for(lambda: state(fleet, "alpha") == "silent", PATIENCE)
    assert isinstance(await beta.hear_until(Ping), Ping)


async def test_goodbye_twice_is_answered_and_a_pong_without_a_ping_is_nothing(
    fleet: Fleet,  # noqa: F811
) -> None:
    alpha = await fleet.join("alpha")
    said: tuple[Message, ...] = (Pong(number=2**62), Pong(number=10**9), Goodbye(), Goodbye())
    for message in said:
        await alpha.say(message)
    assert isinstance(await alpha.hear_until(GoodbyeSeen), GoodbyeSeen)
    await alpha.say(Ping(number=7))
    assert (await alpha.hear_until(Pong)).number == 7


async def test_websockets_own_pings_end_the_connection(fleet: Fleet) -> None:  # noqa: F811
    """Each is answered out of turn, and an older aiohttp queues empty ones without end."""
    alpha = await fleet.join("alpha")
    await alpha.socket.ping()
    await ends(alpha)


async def test_compression_is_not_taken_up(fleet: Fleet) -> None:  # noqa: F811
    """A megabyte of nothing is a kilobyte on the wire."""
    socket = await fleet.session.ws_connect(
        f"{fleet.url}/v1/control", ssl=fleet.context("alpha"), compress=15
    )
    assert not socket.compress
    await socket.close()


async def test_message_that_is_longer_than_any_honest_one_ends_the_connection(
    fleet: Fleet,  # noqa: F811
) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    for machine in (alpha, beta):
        await machine.hear_until(PlanPush)
    # MASTER knows now how many shards there are.
    again = await fleet.join("alpha")
    # What follows may be broken off while it is being sent.
    with pytest.raises((ConnectionError, AssertionError)):  # noqa: PT012
        await again.say(b" " * (longest_message(4) + 1))
        await ends(again)
        raise AssertionError
    assert isinstance(await beta.hear_until(Ping), Ping)


async def test_host_that_does_not_read_is_broken_off_and_leaves_nothing(
    fleet: Fleet,  # noqa: F811
) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    deaf = alpha.socket._response.connection
    assert deaf is not None
    assert deaf.transport is not None
    deaf.transport.pause_reading()
    (connection,) = (c for c in fleet.run.master._book.connections if c.host == "alpha")
    plan = PlanPush(generation=1, sha256="", text="x" * 1_000_000)
    for _ in range(200):
        connection.send(plan)
    assert connection.outbox.size <= 2 * longest_message(None) + 1_000_000
    server = fleet.server
    await wait_for(lambda: len(server.connections) == 1, 3 * PATIENCE, what="its connection ends")
    assert isinstance(await beta.hear_until(Ping), Ping)


async def test_host_that_floods_is_read_later_and_nobody_else_waits(
    fleet: Fleet,  # noqa: F811
) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    over = False

    async def flood() -> None:
        while not over:
            await alpha.say(PermitReturned(shard=1))

    flooding = asyncio.create_task(flood())
    waits = []
    for number in range(20):
        began = time.monotonic()
        await beta.say(Ping(number=number))
        await beta.hear_until(Pong)
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    over = True
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    # Two of twenty may have met a pause of the whole machine.
    assert sorted(waits)[-3] < 1.0 * slowness(), waits


async def test_two_connections_of_one_host_replace_each_other_and_nobody_else_notices(
    fleet: Fleet,  # noqa: F811
) -> None:
    beta = await fleet.join("beta")
    last = None
    for _ in range(50):
        last = await fleet.join("alpha")
    assert last is not None
    assert isinstance(await last.hear_until(Ping), Ping)
    assert state(fleet, "alpha") == "connected"
    assert isinstance(await beta.hear_until(Ping), Ping)


async def test_host_that_claims_all_shards_under_a_plan_of_its_own_gets_none(
    fleet: Fleet,  # noqa: F811
) -> None:
    """Whoever follows the newest plan is believed, when MASTER's files are older."""
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    for machine in (alpha, beta):
        push: PlanPush = await machine.hear_until(PlanPush)
        plan = host_plan_from_yaml(push.text, file="p")
        await machine.say(report(plan.generation, plan.shards()))
    before = fleet.run.master.fleet
    assert before is not None
    await alpha.say(report(before.generation + 1, range(before.shard_count)))
    told: Rejected = await alpha.hear_until(Rejected)
    assert "it says that it follows plan" in told.reason
    again = await fleet.dial("alpha")
    claim = report(before.generation + 1, range(before.shard_count))
    await again.say(Hello(protocol=PROTOCOL, version="1", report=claim))
    assert (await again.hear_until(Rejected)).code == "protocol"
    after = fleet.run.master.fleet
    assert after is not None
    assert after.recovery is None
    assert {s: g.host for s, g in after.granted.items()} == {
        s: g.host for s, g in before.granted.items()
    }
    assert isinstance(await beta.hear_until(Ping), Ping)


async def test_outbox_knows_how_much_is_in_it() -> None:
    outbox = Outbox()
    outbox.put_nowait(PlanPush(generation=1, sha256="", text="x" * 1000))
    outbox.put_nowait(Ping(number=1))
    assert outbox.size == 1256
    outbox.get_nowait()
    await outbox.get()
    assert outbox.size == 0
