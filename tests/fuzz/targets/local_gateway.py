# SPDX-License-Identifier: Apache-2.0
"""What comes in at the local gateway: a request, then frames of a client, cut into reads in any
way. The first byte tells how: what is answered must not depend on it.
"""

import asyncio
from typing import Any, cast

import msgspec
from hypothesis import strategies as st

from discluster.cluster.local.bot import Bot
from discluster.cluster.local.dialogue import Dialogue
from discluster.cluster.local.feed import Feed
from discluster.cluster.local.front import Front, Upgrade
from discluster.cluster.local.head import Request
from discluster.cluster.local.judging import Facts
from discluster.cluster.local.link import Link
from discluster.gateway.asked import COMMANDS
from discluster.gateway.commands import Command
from discluster.gateway.frames import FrameReader, masked
from discluster.secret import Secret
from tests.fuzz import shapes

LONGEST = 8 * 1024
_FACTS = Facts(shard_count=2, shards=(0, 1), intents=513)
_TOKENS = (Secret("token"),)
_FRONT = Front(cluster=0, clients=("bot", "stats"), tokens=_TOKENS, host="127.0.0.1:7500")
_HEAD = (
    b"GET /?v=10&encoding=json HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class _Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close


class _Host:
    """Has nothing to answer with; commands must be such as Discord takes, or be refused."""

    def now(self) -> float:
        return 0.0

    def answer(self, bot: Bot) -> None:
        assert bot.waiting is not None

    def progressed(self, feed: Feed) -> None:
        pass

    def refused(self, bot: Bot, text: str) -> None:
        assert text.isprintable()

    def send(self, shard: int, command: Command) -> asyncio.Task[None]:
        raise AssertionError("without a shard nothing is sent")


def target(data: bytes) -> None:
    step, data = (data[0] % 37 + 1 if data else 1), data[1:]
    whole = _answered([data])
    assert whole == _answered([data[i : i + step] for i in range(0, len(data), step)])
    head, _, rest = whole.partition(b"\r\n\r\n")
    assert not head or head.startswith(b"HTTP/1.1 ")
    if head.startswith(b"HTTP/1.1 101"):
        # What a client's own strict reader takes, and no more than its frames ask for.
        FrameReader(limit=1 << 16).feed(rest)
        assert len(rest) <= 1024 + 4 * len(data)


def _answered(reads: list[bytes]) -> bytes:
    transport = _Transport()
    link = Link(answer=_answer, opened=_opened, closed=lambda bot: bot.leave())
    link.connection_made(cast(asyncio.Transport, transport))
    for data in reads:
        if not transport.closing:
            link.data_received(data)
    link.connection_lost(None)
    return transport.written


def _answer(request: Request) -> bytes | Upgrade:
    return _FRONT.answer(request, _FACTS)


def _opened(transport: asyncio.Transport, upgrade: Upgrade) -> Bot:
    talk = Dialogue(tokens=_TOKENS, facts=lambda: _FACTS, interval=10.0, now=0.0)
    return Bot(transport, upgrade, dialogue=talk, host=_Host(), known=lambda: None)


def _frame(first: int, data: bytes) -> bytes:
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2)
    mask = b"\x07\x00\xff\x55"
    return bytes([first]) + length + mask + masked(data, mask)


class _Body(msgspec.Struct):
    token: str
    intents: int
    shard: list[int]
    session_id: str
    seq: int
    presence: dict[str, Any]
    guild_id: str


def inputs() -> st.SearchStrategy[bytes]:
    op = st.sampled_from([0, 1, 2, 2, 6, 6, *COMMANDS, 99])
    body: st.SearchStrategy[Any] = st.one_of(shapes.struct(_Body, oddness=6), shapes.odd)
    right = st.fixed_dictionaries(
        {"token": st.just("token"), "intents": st.just(513), "shard": st.just([0, 2])}
    )
    said = shapes.as_json(st.fixed_dictionaries({"op": op, "d": st.one_of(body, right)}))
    first = st.sampled_from([0x81, 0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A])
    frames = st.lists(st.builds(_frame, first, said.filter(lambda t: len(t) < 5000)), max_size=4)
    stream = frames.map(lambda parts: _HEAD + b"".join(parts))
    head = st.sampled_from([b"GET /gateway/bot HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n"])
    return st.builds(
        lambda how, all_: bytes([how]) + all_,
        st.integers(0, 255),
        st.one_of(stream, shapes.damaged(stream), shapes.damaged(head)),
    )
