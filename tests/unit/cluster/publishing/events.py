# SPDX-License-Identifier: Apache-2.0
"""Events to be published, in tests."""

import msgspec

from discluster.gateway.events import Event


def event(
    seq: int,
    *,
    shard: int = 1,
    type: str = "MESSAGE_CREATE",
    session: str = "s",
    body: bytes = b'{"content":"x"}',
) -> Event:
    return Event(shard=shard, seq=seq, type=type, body=msgspec.Raw(body), session_id=session)
