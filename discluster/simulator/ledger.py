# SPDX-License-Identifier: Apache-2.0
"""The ledger: what really arrived at the simulated Discord, in order. Append-only.

Times are simulated seconds since the start. Tokens never get in here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeVar

import msgspec

Shard = tuple[int, int]
"""`[shard_id, num_shards]`, as in IDENTIFY."""


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What all records have. `n` counts from 1 without gaps; `bot` is the index of its token."""

    n: int = 0
    time: float = 0.0
    connection: int | None = None
    bot: int | None = None
    shard: Shard | None = None
    session: str | None = None

    @property
    def kind(self) -> str:
        """The record's name on the wire."""
        return str(type(self).__struct_config__.tag)


class Http(Record, frozen=True, kw_only=True, tag="http"):
    """A request to the HTTP API and the status it got."""

    method: str
    path: str
    status: int


class Rest(Record, frozen=True, kw_only=True, tag="rest"):
    """A bot did something over the HTTP API, and it was done. `path` is without the version;
    `body` as it was sent, None where there was none.
    """

    method: str
    path: str
    body: Any = None


class Open(Record, frozen=True, kw_only=True, tag="open"):
    """A WebSocket connection was opened, by a client at this IP address."""

    path: str
    query: dict[str, str]
    user_agent: str = ""
    address: str = ""
    edge: str = "main"


class Identify(Record, frozen=True, kw_only=True, tag="identify"):
    """An IDENTIFY arrived. `gap`: seconds since the previous one in the same lane."""

    accepted: bool
    reason: str = ""
    lane: int | None = None
    gap: float | None = None
    intents: int | None = None


class Ready(Record, frozen=True, kw_only=True, tag="ready"):
    """READY was sent."""

    guilds: int
    resume_url: str


class Resume(Record, frozen=True, kw_only=True, tag="resume"):
    """A RESUME arrived. `last_seq`: the last that was sent in this session, if there is one."""

    accepted: bool
    reason: str = ""
    seq: int | None = None
    last_seq: int | None = None


class Resumed(Record, frozen=True, kw_only=True, tag="resumed"):
    """RESUMED was put behind `replayed` missed events; `seq` is its own."""

    replayed: int
    seq: int


class Heartbeat(Record, frozen=True, kw_only=True, tag="heartbeat"):
    """A heartbeat arrived.

    `gap`: seconds since the connection's previous one. `offset`: seconds since HELLO, for the
    first one only. `requested`: seconds since the server asked for it, if it did. `acknowledged`:
    whether it got its answer.
    """

    seq: int | None = None
    gap: float | None = None
    offset: float | None = None
    requested: float | None = None
    acknowledged: bool = True


class Command(Record, frozen=True, kw_only=True, tag="command"):
    """Another opcode arrived on an authenticated connection."""

    op: int


class Close(Record, frozen=True, kw_only=True, tag="close"):
    """A connection ended. `code` is None for a TCP drop and for a close frame without a code.

    `heard`: payloads that its client had sent.
    """

    by: Literal["client", "server", "tcp"]
    code: int | None = None
    reason: str = ""
    authenticated: bool = False
    heard: int = 0


class InvalidSession(Record, frozen=True, kw_only=True, tag="invalid_session"):
    """INVALID_SESSION was sent."""

    resumable: bool


class Reconnect(Record, frozen=True, kw_only=True, tag="reconnect"):
    """RECONNECT was sent."""


class SessionEnd(Record, frozen=True, kw_only=True, tag="session_end"):
    """A session can no longer be resumed. `lost`: dispatches that were never acknowledged."""

    reason: str
    seq: int = 0
    lost: int = 0


class Violation(Record, frozen=True, kw_only=True, tag="violation"):
    """The client did what Discord forbids or advises against."""

    rule: str
    text: str


class Fault(Record, frozen=True, kw_only=True, tag="fault"):
    """The control API made the simulated Discord misbehave, or changed the world."""

    action: str
    detail: dict[str, str | int | float | bool | None] = {}


class Scripted(Record, frozen=True, kw_only=True, tag="scripted"):
    """A rule of the script is carried out here; `deeds` are their kinds."""

    rule: int
    point: str
    deeds: tuple[str, ...] = ()
    edge: str | None = None


class HeldUp(Record, frozen=True, kw_only=True, tag="held_up"):
    """The simulator itself did not run for so many seconds before this: what came is dated late."""

    seconds: float


AnyRecord = (
    Http
    | Rest
    | Open
    | Identify
    | Ready
    | Resume
    | Resumed
    | Heartbeat
    | Command
    | Close
    | InvalidSession
    | Reconnect
    | SessionEnd
    | Violation
    | Fault
    | Scripted
    | HeldUp
)

KINDS = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (
        Http, Rest, Open, Identify, Ready, Resume, Resumed, Heartbeat, Command, Close,
        InvalidSession, Reconnect, SessionEnd, Violation, Fault, Scripted, HeldUp,
    )
)  # fmt: skip

R = TypeVar("R", bound=Record)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyRecord)


class Ledger:
    """Keeps the newest `limit` records; `n` never starts again."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        limit: int,
        notify: Callable[[Record], None] = lambda _: None,
    ) -> None:
        """`notify` is called with each record."""
        self._clock = clock
        self._limit = limit
        self._notify = notify
        self._records: list[Record] = []
        self._forgotten = 0

    @property
    def last(self) -> int:
        """Number of the newest record, 0 before the first."""
        return self._forgotten + len(self._records)

    def append(self, record: R) -> R:
        """Number and date the record, and keep it."""
        dated = msgspec.structs.replace(record, n=self.last + 1, time=round(self._clock(), 6))
        self._records.append(dated)
        if len(self._records) >= 2 * self._limit:
            dropped = len(self._records) - self._limit
            del self._records[:dropped]
            self._forgotten += dropped
        self._notify(dated)
        return dated

    def since(self, n: int = 0, kinds: Collection[str] = ()) -> list[Record]:
        """Records with a number above `n`, of these kinds only if any are named."""
        records = self._records[max(0, n - self._forgotten) :]
        return [record for record in records if record.kind in kinds] if kinds else records


def encode_lines(records: Iterable[Record]) -> bytes:
    """JSON lines."""
    return _encoder.encode_lines(list(records))


def decode_lines(text: bytes) -> list[AnyRecord]:
    """The reverse of `encode_lines`."""
    return [_decoder.decode(line) for line in text.splitlines() if line]
