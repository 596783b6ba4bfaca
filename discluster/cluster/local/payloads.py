# SPDX-License-Identifier: Apache-2.0
"""What the local gateway says of itself (Discord: Gateway Events, Receive Events)."""

import hashlib
import re
from typing import Final

import msgspec

ACK: Final = b'{"op":11}'
ASK: Final = b'{"op":1,"d":null}'
INVALID: Final = b'{"op":9,"d":false}'

_NAME: Final = re.compile(r"[0-9a-f]{32}")


def hello(heartbeat_interval: float) -> bytes:
    """Op 10. ``heartbeat_interval``: seconds."""
    return msgspec.json.encode(
        {"op": 10, "d": {"heartbeat_interval": round(heartbeat_interval * 1000)}}
    )


def dispatch(kind: str, seq: int, body: bytes) -> bytes:
    """Op 0 of type ``kind`` with the JSON ``body``."""
    return b'{"t":"%b","s":%d,"op":0,"d":%b}' % (kind.encode(), seq, body)


def session_name(session_id: str, *, base: int, client: str, intents: int) -> str:
    """What a client with ``intents`` calls its session: the same in every process that has
    Discord's session, so that none has to remember it.
    """
    named = f"{session_id}\0{base}\0{client}\0{intents}".encode()
    return f"{hashlib.sha256(named).hexdigest()[:24]}{intents:08x}"


def intents_in(name: str) -> int | None:
    """Those that :func:`session_name` put into ``name``, if it made it."""
    return int(name[24:], 16) if _NAME.fullmatch(name) else None


def gateway_bot(url: str, *, cluster: int, shard_count: int, shards: tuple[int, ...]) -> object:
    """``GET /gateway/bot``: with a concurrency that lets all shards identify at once, as nothing of
    it reaches Discord.
    """
    return {
        "url": url,
        "shards": shard_count,
        "session_start_limit": {
            "total": 1000,
            "remaining": 1000,
            "reset_after": 0,
            "max_concurrency": max(16, shard_count),
        },
        "discluster": {"cluster": cluster, "shard_ids": shards},
    }
