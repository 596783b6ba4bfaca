# SPDX-License-Identifier: Apache-2.0
"""Makes a row: from one quiet moment, through what is done, to the next quiet moment."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import AnyRecord
from discluster.simulator.oracles import Claims, Consumed
from discluster.simulator.views import ShardView
from tests.chaos import recordings
from tests.chaos.figures import (
    Sent,
    ShardFigures,
    asked_again,
    authenticated,
    calls,
    floor_of,
    shard_figures,
)
from tests.chaos.recordings import Recordings
from tests.chaos.rows import Promise, Row

_SETTLED: Final = 60.0
_TOLD: Final = 2.0
# Not judged here: O-11 looks at the first heartbeat of each connection, and those that the observer
# asks for come before many a first one.
_HEARTBEATS: Final = "O-11"
_SHARDS_IN_A_JUDGEMENT: Final = 8


class Subject(Protocol):
    """Whoever runs the shards: our fleet, or somebody else's library. One bot, index 0."""

    @property
    def title(self) -> str:
        """Its name in the table."""
        ...

    @property
    def shards(self) -> int: ...

    @property
    def simulator(self) -> SimulatorClient: ...

    def recordings(self) -> Sequence[Path]:
        """The directories with its ``*.events``; see :mod:`tests.chaos.recorder`."""
        ...


def newest(views: Iterable[ShardView]) -> dict[int, ShardView]:
    """Of each shard the session that began last."""
    return {view.shard[0]: view for view in sorted(views, key=lambda view: view.since)}


class Doing:
    """What is done within a row; counts it."""

    def __init__(self) -> None:
        self.times = 0
        self.row: Row | None = None

    def done(self, times: int = 1) -> None:
        self.times += times

    @property
    def result(self) -> Row:
        assert self.row is not None, "the row is not finished"
        return self.row


class Observer:
    """Makes one row after the other of one subject, whose shards are all connected."""

    def __init__(self, subject: Subject, *, rate: float, note: str = "") -> None:
        """``rate``: events per second and shard while something is done. ``note``: is put behind
        what each row says was done.
        """
        self.rows: list[Row] = []
        self._subject = subject
        self._simulator = subject.simulator
        self._rate = rate
        self._note = note
        self._floor: dict[int, int] = {}

    @asynccontextmanager
    async def row(self, what: str, promise: Promise) -> AsyncIterator[Doing]:
        """Events flow while the body runs. Afterwards they stop, and once every shard is back and
        has everything that is under way, the row is made: ``result`` of what is yielded. What the
        body waited for in vain is a broken promise, if there is one.
        """
        await self.quiet()
        records = await self._simulator.ledger()
        mark, since = (records[-1].n if records else 0), time.monotonic_ns()
        doing = Doing()
        await self._flow()
        late: list[str] = []
        try:
            yield doing
        except TimeoutError as error:
            if not promise.judged:
                raise
            late = [f"not within its time: {error}"]
        # Who did not come back within this time loses what it did not get: the row tells.
        with contextlib.suppress(TimeoutError):
            await self._simulator.wait_for_connected(self._subject.shards, _SETTLED)
        with contextlib.suppress(TimeoutError):
            await self.quiet()
        seconds = (time.monotonic_ns() - since) * 1e-9
        row = await self._made(what, promise, doing.times, mark, since, seconds)
        doing.row = msgspec.structs.replace(row, verdicts=(*row.verdicts, *late))
        self.rows.append(doing.row)

    async def _flow(self) -> None:
        """Events flow, to every shard."""
        before = {view.session: view.seq for view in await self._simulator.shards()}
        await self._simulator.stream(self._rate)
        await self._simulator.wait_for_shards(
            lambda views: all(view.seq > before.get(view.session, 0) for view in views), _SETTLED
        )

    async def quiet(self) -> None:
        """Stops the stream and waits until every shard is connected and has acknowledged all.

        Raises:
            TimeoutError: not within a minute.
        """
        await self._simulator.stream(0)
        async with asyncio.timeout(_SETTLED):
            while True:
                await self._simulator.wait_for_connected(self._subject.shards, _SETTLED)
                # Whoever is asked for a heartbeat tells how far it is.
                await self._simulator.request_heartbeat("all")
                with contextlib.suppress(TimeoutError):
                    await self._simulator.wait_for_shards(self._have_all, _TOLD)
                    return

    def _have_all(self, views: list[ShardView]) -> bool:
        found = newest(views)
        return len(found) == self._subject.shards and all(
            view.state == "connected" and view.acknowledged >= view.seq for view in found.values()
        )

    async def _made(
        self, what: str, promise: Promise, times: int, mark: int, since: int, seconds: float
    ) -> Row:
        records = await self._simulator.ledger()
        noted = recordings.read(self._subject.recordings())
        came = authenticated(records, await self._zero())
        found, floor = [], dict(self._floor)
        for shard in range(self._subject.shards):
            sent = await self._simulator.sent(shard)
            found.append(self._figures(sent, noted, shard, records, since, came))
            floor.update(floor_of(sent))
        self._floor = floor
        called = calls(records, mark)
        return Row(
            subject=self._subject.title,
            what=what + self._note,
            times=times,
            shards=self._subject.shards,
            sent=sum(one.sent for one in found),
            lost=sum(one.lost for one in found),
            doubled=sum(one.doubled for one in found),
            unasked=sum(one.unasked for one in found),
            identifies=called.identifies,
            resumes=called.resumes,
            twice=called.twice,
            gaps=tuple(gap for one in found for gap in one.gaps),
            pauses=tuple(one.pause for one in found),
            overlap=max(one.overlap for one in found),
            verdicts=tuple(await self._verdicts(noted)) if promise.judged else (),
            seconds=seconds,
            promise=promise,
        )

    def _figures(
        self,
        sent: list[Sent],
        noted: Recordings,
        shard: int,
        records: list[AnyRecord],
        since: int,
        came: Mapping[int, Sequence[int]],
    ) -> ShardFigures:
        return shard_figures(
            sent,
            noted.of(shard),
            sessions=noted.sessions,
            again=asked_again(records),
            floor=self._floor,
            since=since,
            came=came.get(shard, ()),
        )

    async def _zero(self) -> int:
        """When the simulator's time began, in nanoseconds of CLOCK_MONOTONIC; rather too early."""
        before = time.monotonic_ns()
        return before - round((await self._simulator.summary()).now * 1e9)

    async def _verdicts(self, noted: Recordings) -> list[str]:
        """The simulator's own judgement, O-13 over all that was ever taken among it."""
        total = self._subject.shards
        said: dict[str, None] = {}
        for first in range(0, total, _SHARDS_IN_A_JUDGEMENT):
            consumed = [
                Consumed(
                    shard=(shard, total), events=[(e.guild, e.number) for e in noted.of(shard)]
                )
                for shard in range(first, min(total, first + _SHARDS_IN_A_JUDGEMENT))
            ]
            for verdict in await self._simulator.judgement(Claims(consumed=consumed)):
                if verdict.oracle != _HEARTBEATS:
                    said[f"{verdict.oracle}: {verdict.text}"] = None
        return list(said)
