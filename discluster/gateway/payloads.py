# SPDX-License-Identifier: Apache-2.0
"""The payloads that a shard sends, as bytes ready for the socket.

IDENTIFY and RESUME hold the bot token: what these functions return must never be logged.
"""

import msgspec

from discluster.gateway.identity import Identity
from discluster.secret import Secret

HEARTBEAT = 1
IDENTIFY = 2
RESUME = 6

_encode = msgspec.json.encode


def heartbeat(seq: int | None) -> bytes:
    """Op 1 with the last sequence received, or null (Discord: Gateway Events, Heartbeat)."""
    return b'{"op":1,"d":%d}' % seq if seq is not None else b'{"op":1,"d":null}'


def identify(identity: Identity, *, shard: int, shard_count: int) -> bytes:
    """Op 2 (Discord: Gateway Events, Identify). The token goes bare, without ``Bot``."""
    data: dict[str, object] = {
        "token": identity.token.reveal(),
        "properties": {"os": "linux", "browser": "discluster", "device": "discluster"},
        "intents": identity.intents,
        "large_threshold": identity.large_threshold,
        "shard": [shard, shard_count],
    }
    if identity.presence is not None:
        data["presence"] = identity.presence
    return _encode({"op": IDENTIFY, "d": data})


def resume(token: Secret, *, session_id: str, seq: int) -> bytes:
    """Op 6 with the last sequence that was handled (Discord: Gateway Events, Resume)."""
    data = {"token": token.reveal(), "session_id": session_id, "seq": seq}
    return _encode({"op": RESUME, "d": data})
