# SPDX-License-Identifier: Apache-2.0
"""A handler that raises: skipped, tried again, or the end of the cluster."""

import asyncio
import logging
import math

import msgspec
import pytest

from discluster.errors import HandlerError
from discluster.gateway import Event
from discluster.gateway.failing import HandlerFailures, Reaction, pause_before
from discluster.gateway.handling import Handling
from tests.clock import ManualClock, settle
from tests.unit.gateway.fakes import Rig, stored_session
from tests.unit.gateway.test_shard_lease import LeasedGate


class Poisoned:
    """Raises at the event ``poison``, ``times`` times."""

    def __init__(self, reaction: Reaction, *, poison: int = 3, times: float = math.inf) -> None:
        self.clock = ManualClock()
        self.failures = HandlerFailures(clock=self.clock, reaction=reaction, tries=4)
        self.taken: list[int] = []
        self.calls: list[float] = []
        self._began = self.clock.monotonic()
        self._poison = poison
        self._times = times

    def handle(self, event: Event) -> None:
        if event.seq == self._poison and len(self.calls) < self._times:
            self.calls.append(self.clock.monotonic() - self._began)
            raise ValueError("no database")
        self.taken.append(event.seq)

    async def handle_soon(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.handle(event)

    def handling(self, kind: str) -> Handling:
        handle = self.handle if kind == "sync" else self.handle_soon
        return Handling(failures=self.failures, handle=handle)


def test_pauses_grow_up_to_a_bound() -> None:
    pauses = [pause_before(tries) for tries in range(1, 10_000)]
    assert pauses[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pauses[-1] == 30


def test_failures_are_counted_by_type_within_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    failures = HandlerFailures(clock=ManualClock())
    for number in range(1000):
        event = Event(1, number, f"TYPE_{number}", msgspec.Raw(b"{}"), "s")
        assert failures.failed([event], ValueError(), tries=1) is None
    assert failures.counts.total() == failures.skipped == 1000
    assert failures.counts["others"] == 800
    assert len(caplog.records) <= 202


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_event_that_is_tried_again_is_taken_in_its_turn(kind: str) -> None:
    poisoned = Poisoned("retry", times=2)
    async with Rig(handler=poisoned.handling(kind)) as rig:
        socket = await rig.become_ready()
        for seq in (2, 3, 4):
            socket.event(seq)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([1, 2], 2)
        assert "failed at a MESSAGE_CREATE event (sequence 3) 1 times" in str(
            rig.shard.view().problem
        )
        await poisoned.clock.advance(0.5)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([1, 2], 2)
        await poisoned.clock.advance(1.0)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([1, 2, 3, 4], 4)
        assert rig.shard.view().problem is None
        assert rig.shard.failures == 2
    assert poisoned.calls == [0.0, 0.5]
    assert poisoned.failures.skipped == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_event_that_fails_at_every_try_is_skipped_after_the_last(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned = Poisoned("retry")
    async with Rig(handler=poisoned.handling(kind)) as rig:
        socket = await rig.become_ready()
        for seq in (2, 3, 4):
            socket.event(seq)
        await settle()
        await poisoned.clock.advance(3.5)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([1, 2, 4], 4)
    assert poisoned.calls == [0.0, 0.5, 1.5, 3.5]
    assert poisoned.failures.summary() == (
        "the handler failed 4 times (MESSAGE_CREATE 4); 1 events skipped"
    )
    assert "skipped after 4 tries" in caplog.text


async def test_shard_that_leaves_while_an_event_is_tried_again_has_not_taken_it() -> None:
    poisoned = Poisoned("retry")
    async with Rig(handler=poisoned.handling("sync")) as rig:
        socket = await rig.become_ready()
        socket.event(3)
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(1.5)
        await stopping
        assert rig.sessions.seq == 1
        assert socket.close_codes == [4000]


async def test_lease_that_ends_between_two_tries_leaves_the_event_to_the_next_owner() -> None:
    poisoned = Poisoned("retry", poison=43, times=1)
    gate = LeasedGate()
    session = stored_session(seq=41)
    async with Rig(session=session, gate=gate, handler=poisoned.handling("sync")) as rig:
        socket = await rig.become_resumed(seq=42)
        socket.event(43)
        await settle()
        gate.left = 0
        await poisoned.clock.advance(0.5)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([42], 42)
        assert socket.close_codes == [4000]
        gate.renew()
        await rig.next_socket()
        assert await resumed_after(rig) == 42
        rig.socket.event(43)
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([42, 43], 43)


async def resumed_after(rig: Rig) -> int:
    """The sequence in the RESUME of the newest connection."""
    rig.socket.hello()
    await settle()
    return int(rig.socket.authentications()[0]["d"]["seq"])


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_fatal_failure_ends_the_cluster_before_its_event_is_taken(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned = Poisoned("fatal")
    ended: list[None] = []
    poisoned.failures.on_fatal(lambda: ended.append(None))
    async with Rig(handler=poisoned.handling(kind)) as rig:
        socket = await rig.become_ready()
        for seq in (2, 3, 4):
            socket.event(seq)
        await settle()
        await poisoned.clock.advance(1000)
        assert (poisoned.taken, rig.sessions.seq, len(ended)) == ([1, 2], 2, 1)
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(1.5)
        await stopping
        assert (poisoned.taken, rig.sessions.seq) == ([1, 2], 2)
    error = poisoned.failures.fatal
    assert isinstance(error, HandlerError)
    assert error.exit_status == 75
    assert "shard 3: the handler raised ValueError at a MESSAGE_CREATE event (sequence 3)" in str(
        error.message
    )
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.__dict__["SEQ"] == "3"


@pytest.mark.parametrize("reaction", ["skip", "retry", "fatal"])
async def test_events_that_are_not_wanted_are_passed_over(reaction: Reaction) -> None:
    poisoned = Poisoned(reaction, poison=0)
    handling = Handling(
        failures=poisoned.failures, handle=poisoned.handle, wants=frozenset({"MESSAGE_CREATE"})
    )
    async with Rig(handler=handling) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        socket.event(3, "TYPING_START")
        await settle()
        assert (poisoned.taken, rig.sessions.seq) == ([2], 3)
        assert rig.shard.view().events == 3
