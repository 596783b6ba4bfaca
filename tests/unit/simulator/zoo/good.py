# SPDX-License-Identifier: Apache-2.0
"""A client that keeps the rules, on the raw client of these tests. The bad ones inherit from it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from discluster.simulator.ledger import Shard
from discluster.simulator.validate import TERMINAL_CODES
from tests.unit.simulator.client import Client, ClosedError, Dialer, Payload


class LeftError(Exception):
    """The client itself ended its connection, and goes on."""


@dataclass
class Habitat:
    """What the clients of one bot share."""

    dialer: Dialer
    token: str
    interval: float
    rng: random.Random
    spacing: float = 6.5
    last_identify: float = -100.0
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)


class Good:
    """One shard."""

    query = "v=10&encoding=json"

    def __init__(self, home: Habitat, shard: Shard) -> None:
        self.home = home
        self.shard = shard
        self.ready = asyncio.Event()
        self.settled = asyncio.Event()
        self.seq = 0
        self.events: list[tuple[int, int]] = []
        self.log: list[str] = []
        self.session: Client | None = None  # the connection that a RESUME would follow
        self.codes: list[int | None] = []
        self.elsewhere = False  # on a resume host

    async def live(self) -> None:
        """Connect and come back, until told not to."""
        while True:
            code = await self.connection()
            self.codes.append(code)
            self.ready.clear()
            if self.is_final(code):
                self.settled.set()
                return
            await asyncio.sleep(self.pause())

    async def connection(self) -> int | None:
        """One connection, to its end; returns the close code."""
        client = await self.dial()
        beats: asyncio.Task[None] | None = None
        try:
            await client.receive()
            self.log.append(f"connected to {client.ws._response.url}")
            beats = asyncio.create_task(self.beat(client))
            await self.authenticate(client)
            while True:
                await self.take(client, await client.receive())
        except ClosedError as end:
            return end.code
        except LeftError:
            return None
        finally:
            if beats is not None:
                beats.cancel()

    async def dial(self) -> Client:
        self.elsewhere = self.host() is not None
        return await self.home.dialer.dial(self.host(), self.query, hello=False)

    async def authenticate(self, client: Client) -> None:
        if self.session is None:
            await self.identify(client)
        else:
            self.log.append(f"resumes {self.shard}")
            await client.resume(self.session, seq=self.resume_seq(), token=self.home.token)

    async def identify(self, client: Client) -> None:
        async with self.home.gate:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(self.home.last_identify + self.home.spacing - loop.time())
            self.home.last_identify = loop.time()
            self.seq = 0  # of the session that is gone: a beat before READY must not name it
            await client.identify(self.shard, token=self.home.token)

    async def take(self, client: Client, payload: Payload) -> None:
        match payload["op"]:
            case 0:
                self.dispatched(client, payload)
            case 1:
                await self.answer(client)
            case 7:
                await self.leave(client)
            case 9:
                await self.invalidated(client, resumable=payload["d"])

    def dispatched(self, client: Client, payload: Payload) -> None:
        self.seq = payload["s"]
        if payload["t"] in ("READY", "RESUMED"):
            self.session = client
            self.ready.set()
        if "_count" in payload["d"]:
            self.consume((int(payload["d"]["guild_id"]), payload["d"]["_count"]))

    async def invalidated(self, client: Client, *, resumable: bool) -> None:
        self.ready.clear()
        if not resumable:
            self.session = None
        await asyncio.sleep(self.after_invalid())
        if self.elsewhere and self.session is None:
            await client.close(4000)
            raise LeftError
        await self.authenticate(client)

    async def beat(self, client: Client) -> None:
        await asyncio.sleep(self.first_beat())
        while True:
            await client.send(1, self.seq or None)
            await asyncio.sleep(self.next_beat())

    # Traits

    def host(self) -> str | None:
        return None if self.session is None else self.session.resume_url

    def is_final(self, code: int | None) -> bool:
        return code in TERMINAL_CODES

    def pause(self) -> float:
        return 1.0 + self.home.rng.random()

    def first_beat(self) -> float:
        return self.home.interval * self.home.rng.random()

    def next_beat(self) -> float:
        return self.home.interval

    def after_invalid(self) -> float:
        return 3.0

    def resume_seq(self) -> int:
        return self.seq

    def consume(self, event: tuple[int, int]) -> None:
        self.events.append(event)

    def claims_health(self) -> bool:
        return self.ready.is_set()

    async def answer(self, client: Client) -> None:
        await client.send(1, self.seq)

    async def leave(self, client: Client) -> None:
        await client.close(4000)
        raise LeftError
