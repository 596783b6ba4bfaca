# SPDX-License-Identifier: Apache-2.0
"""What a Redis server says, cut into reads in any way, and what its replies mean.

The first byte tells how it is cut: what is read must not depend on it.
"""

from hypothesis import strategies as st

from discluster.cluster.handlers.publishing.broker import BrokerError
from discluster.cluster.handlers.redis import streams, wire
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024


def target(data: bytes) -> None:
    step, data = (data[0] % 37 + 1 if data else 1), data[1:]
    whole, pieces = _read([data]), _read([data[i : i + step] for i in range(0, len(data), step)])
    assert whole == pieces
    for reply in whole or ():
        refusal = streams.refusal(reply, 7)
        assert (refusal is None) == isinstance(reply, bytes)
        if refusal is not None:
            check_error(BrokerError(refusal.reason, hint=refusal.hint))
        if isinstance(reply, bytes):
            wire.infos(reply)


def _read(reads: list[bytes]) -> list[wire.Reply] | None:
    """Replies; None: refused."""
    reader = wire.Reader()
    found: list[wire.Reply] = []
    try:
        for data in reads:
            found += reader.feed(data)
    except wire.RedisProtocolError as error:
        check_error(error)
        return None
    return found


def _bulk(value: bytes, size: int | None) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value) if size is None else size, value)


def inputs() -> st.SearchStrategy[bytes]:
    value = st.one_of(st.just(b"1526919030474-5"), st.binary(max_size=20), st.just(b"a:b\r\nc:d"))
    line = st.one_of(
        st.builds(_bulk, value, st.none()),
        st.builds(_bulk, value, st.none()),
        st.builds(_bulk, value, st.one_of(shapes.numbers, st.integers(-3, 3))),
        shapes.numbers.map(lambda number: b":%d\r\n" % number),
        st.sampled_from(
            [b"+OK\r\n", b"$-1\r\n", b"-OOM no \x1b[2J\r\n", b"*1\r\n:1\r\n", b"-\r\n"]
        ),
    )
    stream = st.lists(line, max_size=6).map(b"".join)
    return st.builds(
        lambda how, all_: bytes([how]) + all_, st.integers(0, 255), shapes.damaged(stream)
    )
