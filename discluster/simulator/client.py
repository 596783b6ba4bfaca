# SPDX-License-Identifier: Apache-2.0
"""Client of the simulator's control API, for tests, rehearsals and the demo."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec

from discluster.simulator import bodies
from discluster.simulator.burst import BurstView
from discluster.simulator.deeds import AnyDeed
from discluster.simulator.edges import EdgeView
from discluster.simulator.ledger import AnyRecord, decode_lines
from discluster.simulator.oracles import Claims, Report, Verdict
from discluster.simulator.outages import EdgeAsked, EdgeConnections, EdgeOrder
from discluster.simulator.script import At, Point, Rule, RuleView, Which
from discluster.simulator.templates import ident
from discluster.simulator.views import ShardView, Summary

T = TypeVar("T")

# A stream of events leaves no records: what it changes is looked at this often, in seconds.
_POLL = 0.25


class SimulatorError(Exception):
    """The control API refused; the message ends with its hint."""


class SimulatorClient:
    """`async with SimulatorClient("http://127.0.0.1:8080" or "unix:/run/simulator.sock")`."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("unix:") if url.startswith("unix:") else None
        self._base = "http://simulator" if self._path else url.rstrip("/")
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> SimulatorClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client may be used again."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    # Looking

    async def ledger(
        self, since: int = 0, kinds: Collection[str] = (), *, wait: float = 0.0
    ) -> list[AnyRecord]:
        """Records above `since`. If there are none, waits up to `wait` seconds for the first."""
        parameters = {"since": str(since), "kind": ",".join(kinds), "wait": str(wait)}
        return decode_lines(await self._get("/ledger", **parameters))

    async def summary(self) -> Summary:
        """Totals."""
        return msgspec.json.decode(await self._get("/summary"), type=Summary)

    async def shards(self) -> list[ShardView]:
        """Living sessions."""
        return msgspec.json.decode(await self._get("/shards"), type=list[ShardView])

    async def judgement(self, claims: Claims | None = None) -> list[Verdict]:
        """Violated oracles; empty is good. Some oracles need to know what the client claims."""
        body = msgspec.to_builtins(claims or Claims())
        answer = await self._request("POST", "/judgement", body)
        return msgspec.json.decode(answer, type=list[Verdict])

    async def report(self) -> list[Report]:
        """Figures of each bot: identifies, lost sessions, times of recovery."""
        return msgspec.json.decode(await self._get("/report"), type=list[Report])

    async def sent(self, shard: int) -> list[tuple[int, int, int]]:
        """Counted events sent to a shard: guild id, count, sequence.

        Sequence 0: there was no session to send it in (setting `events_without_session`).
        """
        body = await self._get("/sent", shard=str(shard))
        return msgspec.json.decode(body, type=list[tuple[int, int, int]])

    # Waiting

    async def wait_for_shards(
        self, predicate: Callable[[list[ShardView]], bool], timeout: float
    ) -> list[ShardView]:
        """Living sessions as soon as they satisfy `predicate`; raises TimeoutError."""
        return await self._wait_for(self.shards, predicate, timeout)

    async def wait_for_summary(
        self, predicate: Callable[[Summary], bool], timeout: float
    ) -> Summary:
        """Totals as soon as they satisfy `predicate`; raises TimeoutError."""
        return await self._wait_for(self.summary, predicate, timeout)

    async def wait_for_record(
        self, predicate: Callable[[AnyRecord], bool], timeout: float, *, since: int = 0
    ) -> AnyRecord:
        """The first record above `since` that satisfies `predicate`; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                for record in await self.ledger(since, wait=min(timeout, 30.0)):
                    since = record.n
                    if predicate(record):
                        return record

    async def wait_for_connected(self, count: int, timeout: float) -> list[ShardView]:
        """Wait until at least `count` sessions are connected."""
        return await self.wait_for_shards(
            lambda shards: sum(shard.state == "connected" for shard in shards) >= count, timeout
        )

    async def _wait_for(
        self, look: Callable[[], Awaitable[T]], predicate: Callable[[T], bool], timeout: float
    ) -> T:
        async with asyncio.timeout(timeout):
            since = (await self.summary()).records
            while True:
                seen = await look()
                if predicate(seen):
                    return seen
                records = await self.ledger(since, wait=_POLL)
                since = records[-1].n if records else since

    # Acting

    async def drop(self, shard: Which, code: int | None = None) -> int:
        """Reset the TCP connection, or close it with `code`; returns how many were touched."""
        return await self._post("/drop", shard=shard, code=code)

    async def close_connection(
        self, shard: Which, code: int | None = 1000, reason: str = ""
    ) -> int:
        """Send a close frame."""
        return await self._post("/close", shard=shard, code=code, reason=reason)

    async def invalidate(
        self, shard: Which, *, resumable: bool = False, silent: bool = False
    ) -> int:
        """Invalidate the session; `silent` does not tell its client."""
        return await self._post("/invalidate", shard=shard, resumable=resumable, silent=silent)

    async def reconnect(self, shard: Which, *, close_after: float | None = None) -> int:
        """Send RECONNECT."""
        return await self._post("/reconnect", shard=shard, close_after=close_after)

    async def event(
        self, shard: Which | Literal["routed"], name: str, body: dict[str, Any]
    ) -> int | None:
        """Send one event; returns its count in its guild.

        "routed": to those whom Discord would send it to, by guild and intents.
        """
        answer = await self._request("POST", "/event", {"shard": shard, "t": name, "d": body})
        return msgspec.json.decode(answer, type=dict[str, int | None])["count"]

    async def say(self, guild: int, content: str) -> int | None:
        """Somebody says this in a guild's channel; returns the message's count in the guild."""
        rng = random.Random(f"{guild}/{content}")
        said = {
            **bodies.message(rng, edited=False),
            "mentions": [],
            "content": content,
            "channel_id": str(guild),
            "guild_id": str(guild),
            "id": str(ident(guild, rng.getrandbits(30))),
        }
        return await self.event("routed", "MESSAGE_CREATE", said)

    async def request_heartbeat(self, shard: Which) -> int:
        """Ask for a heartbeat."""
        return await self._post("/heartbeat-request", shard=shard)

    async def mute(self, shard: Which, seconds: float) -> int:
        """Make the connection half-open for so many simulated seconds."""
        return await self._post("/mute", shard=shard, **{"for": seconds})

    async def withhold_acks(self, shard: Which, count: int) -> int:
        """Leave the next heartbeats without an answer."""
        return await self._post("/withhold-acks", shard=shard, count=count)

    async def stream(self, events_per_second: float) -> int:
        """Change the rate of events per shard; 0 pauses."""
        return await self._post("/stream", events_per_second=events_per_second)

    async def revoke_token(self, bot: int = 0) -> int:
        """Void the token."""
        return await self._post("/token/revoke", bot=bot)

    async def accept_token(self, token: str, bot: int = 0) -> int:
        """Make a new token valid and the old one void."""
        return await self._post("/token/accept", token=token, bot=bot)

    async def set_budget(self, remaining: int, bot: int = 0) -> int:
        """Set the session starts that are left."""
        return await self._post("/budget", remaining=remaining, bot=bot)

    async def set_intents(self, privileged: Collection[str], bot: int = 0) -> int:
        """Set the privileged intents that are granted."""
        return await self._post("/intents", privileged=list(privileged), bot=bot)

    async def script(self, at: At | Point, *do: AnyDeed, instead: bool = False) -> int:
        """A rule that does this there; returns its id. See `Rule` for `instead`."""
        place = At(point=at) if isinstance(at, str) else at
        body = msgspec.to_builtins(Rule(at=place, do=do, instead=instead))
        answer = await self._request("POST", "/script", body)
        return msgspec.json.decode(answer, type=dict[str, int])["id"]

    async def scripts(self) -> list[RuleView]:
        """All rules, and how often each was carried out."""
        return msgspec.json.decode(await self._get("/script"), type=list[RuleView])

    async def unscript(self, ident: int | None = None) -> int:
        """Forget one rule, or all; returns how many."""
        parameters = {} if ident is None else {"id": str(ident)}
        answer = await self._request("DELETE", "/script", None, parameters)
        return msgspec.json.decode(answer, type=dict[str, int])["affected"]

    async def edge(
        self,
        edge: str,
        do: EdgeOrder,
        *,
        seconds: float | None = None,
        connections: EdgeConnections = "keep",
        spacing: float = 0.0,
        grace: float = 5.0,
    ) -> int:
        """Drain, stop or restore an edge, or "all"; see `EdgeAsked`. Returns its connections."""
        asked = EdgeAsked(
            edge=edge,
            do=do,
            seconds=seconds,
            connections=connections,
            spacing=spacing,
            grace=grace,
        )
        return await self._post("/edge", **msgspec.to_builtins(asked))

    async def edges(self) -> list[EdgeView]:
        """All edges and how they are."""
        return msgspec.json.decode(await self._get("/edges"), type=list[EdgeView])

    async def prepare_burst(self, shard: Which = "all", events: int = 30_000) -> int:
        """Make and compress so many events for each connection; returns how many in all.

        They, and all that follows them, wait for `release_burst`.
        """
        return await self._post("/burst/prepare", shard=shard, events=events)

    async def release_burst(self) -> int:
        """Send what is prepared as fast as the clients read; returns the events at once."""
        return await self._post("/burst/release")

    async def burst(self) -> BurstView:
        """How far the burst is."""
        return msgspec.json.decode(await self._get("/burst"), type=BurstView)

    # Inside

    async def _post(self, path: str, **body: object) -> int:
        answer = await self._request("POST", path, body)
        return msgspec.json.decode(answer, type=dict[str, int])["affected"]

    async def _get(self, path: str, **parameters: str) -> bytes:
        return await self._request("GET", path, None, parameters)

    async def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        parameters: dict[str, str] | None = None,
    ) -> bytes:
        if self._http is None:
            connector = aiohttp.UnixConnector(self._path) if self._path else None
            self._http = aiohttp.ClientSession(connector=connector)
        # Not bare bytes: aiohttp warns of those that are large, as claims may be.
        data = None if body is None else io.BytesIO(msgspec.json.encode(body))
        url = self._base + path
        async with self._http.request(method, url, params=parameters, data=data) as response:
            answer = await response.read()
        if response.status != 200:
            raise SimulatorError(f"{method} {path}: {answer.decode(errors='replace')}")
        return answer
