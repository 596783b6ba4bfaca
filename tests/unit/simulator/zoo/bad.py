# SPDX-License-Identifier: Apache-2.0
"""Bad clients: each is the good one but for one trait, which real libraries have had."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from discluster.simulator.guilds import guild_id, numbers_on_shard
from tests.unit.simulator.client import Client, Payload
from tests.unit.simulator.zoo.good import Good, LeftError


class Hasty(Good):
    """Identifies whenever it likes."""

    async def identify(self, client: Client) -> None:
        await client.identify(self.shard, token=self.home.token)

    def after_invalid(self) -> float:
        return 7.0


class Polite(Good):
    """Says goodbye with 1000, and wonders where its session is."""

    async def leave(self, client: Client) -> None:
        await client.close(1000)
        raise LeftError


class Departing(Good):
    """The same with 1001."""

    async def leave(self, client: Client) -> None:
        await client.close(1001)
        raise LeftError


class Reuser(Good):
    """Keeps its inflate context when it reconnects."""

    query = "v=10&encoding=json&compress=zlib-stream"
    context: Any = None
    garbage = 0

    async def dial(self) -> Client:
        client = await super().dial()
        self.context = self.context or client.decode
        client.decode = self.context
        return client

    async def connection(self) -> int | None:
        try:
            return await super().connection()
        except (zlib.error, ValueError):
            self.garbage += 1
            self.home.dialer.clients[-1].kill()
            return None

    def pause(self) -> float:
        return 8.0  # so slowly that its rate alone says nothing


class Talkative(Good):
    """Sends without counting."""

    talked = False

    def dispatched(self, client: Client, payload: Payload) -> None:
        super().dispatched(client, payload)
        if payload["t"] == "READY" and not self.talked:
            self.talked = True
            self.talk = asyncio.create_task(self.say(client))

    async def say(self, client: Client) -> None:
        guild = str(guild_id(numbers_on_shard(*self.shard, 100)[0]))
        state = {"guild_id": guild, "channel_id": None, "self_mute": False, "self_deaf": False}
        for _ in range(121):
            await client.send(4, state)


class Unjittered(Good):
    """Beats at once after HELLO, as all the others do."""

    def first_beat(self) -> float:
        return 0.0


class Late(Good):
    """Beats too rarely."""

    def next_beat(self) -> float:
        return 2 * self.home.interval


class Dead(Good):
    """Does not beat."""

    async def beat(self, client: Client) -> None:
        await asyncio.Event().wait()


class Deaf(Good):
    """Does not answer when it is asked for a heartbeat."""

    async def answer(self, client: Client) -> None:
        pass


class Boaster(Good):
    """Resumes from what it never had."""

    def resume_seq(self) -> int:
        return self.seq + 5

    def is_final(self, code: int | None) -> bool:
        if code == 4007:
            self.session = None
        return super().is_final(code)


class Nostalgic(Good):
    """Resumes from long ago."""

    def resume_seq(self) -> int:
        return 1


class Forgetful(Good):
    """Identifies though it could resume."""

    async def authenticate(self, client: Client) -> None:
        self.session = None
        await super().authenticate(client)

    def host(self) -> str | None:
        return None


class Lost(Good):
    """Identifies on the resume host."""

    last_host: str | None = None

    def dispatched(self, client: Client, payload: Payload) -> None:
        super().dispatched(client, payload)
        if self.session is not None:
            self.last_host = self.session.resume_url

    def host(self) -> str | None:
        return self.last_host


class Impatient(Good):
    """Identifies at once after INVALID_SESSION."""

    def after_invalid(self) -> float:
        return 0.0


class Stubborn(Good):
    """Tries the old session again after INVALID_SESSION."""

    tried = False

    async def invalidated(self, client: Client, *, resumable: bool) -> None:
        if self.tried:
            await super().invalidated(client, resumable=resumable)
            return
        self.tried = True
        await asyncio.sleep(3.0)
        client.kill()
        raise LeftError


class Unstoppable(Good):
    """Comes back after 4004."""

    def is_final(self, code: int | None) -> bool:
        self.settled.set()
        return False

    def pause(self) -> float:
        return 8.0


class Frantic(Good):
    """Drops its connection as soon as it is ready, and comes back without a pause."""

    rounds = 0

    def dispatched(self, client: Client, payload: Payload) -> None:
        super().dispatched(client, payload)
        if payload["t"] in ("READY", "RESUMED") and self.rounds < 12:
            self.rounds += 1
            client.kill()
            raise LeftError

    def pause(self) -> float:
        return 0.0


class Storm(Good):
    """Does not wait for READY: gives up, and identifies again."""

    async def authenticate(self, client: Client) -> None:
        await super().authenticate(client)
        await asyncio.sleep(2.0)
        if not self.settled.is_set():
            client.kill()

    def is_final(self, code: int | None) -> bool:
        return code == 4004


class Leaky(Good):
    """Loses an event of ten."""

    seen = 0

    def consume(self, event: tuple[int, int]) -> None:
        self.seen += 1
        if self.seen % 10:
            super().consume(event)


class Stutterer(Good):
    """Takes an event of ten twice."""

    seen = 0

    def consume(self, event: tuple[int, int]) -> None:
        self.seen += 1
        super().consume(event)
        if not self.seen % 10:
            super().consume(event)


class Shuffler(Good):
    """Hands over the newest event first."""

    def consume(self, event: tuple[int, int]) -> None:
        self.events.insert(0, event)


class Chatterbox(Good):
    """Writes what it sends to its log."""

    async def identify(self, client: Client) -> None:
        self.log.append(f'-> {{"op": 2, "d": {{"token": "{self.home.token}"}}}}')
        await super().identify(client)


class Liar(Good):
    """Is always well."""

    def claims_health(self) -> bool:
        return True


class Sluggish(Good):
    """Takes its time to come back."""

    def pause(self) -> float:
        return 45.0


class Sulky(Good):
    """Never comes back."""

    def is_final(self, code: int | None) -> bool:
        return True
