# SPDX-License-Identifier: Apache-2.0
"""Events for the tests of images."""

import itertools
import json
from typing import Any

import msgspec

from discluster.gateway.events import Event

ME = "610000000000000002"
SHARD = 3


class Session:
    """Makes the events of one session, with sequences as Discord counts them."""

    def __init__(self, session_id: str = "f00d") -> None:
        self.id = session_id
        self._seq = itertools.count(1)

    def event(self, name: str, body: Any) -> Event:
        """``body``: what becomes JSON, or JSON as bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Event(SHARD, next(self._seq), name, msgspec.Raw(raw), self.id)

    def ready(self, *guilds: str) -> Event:
        return self.event(
            "READY",
            {
                "v": 10,
                "user": {"id": ME, "username": "orbit-bot", "email": None},
                "session_id": self.id,
                "resume_gateway_url": "wss://gateway.example",
                "shard": [SHARD, 16],
                "guilds": [{"unavailable": True, "id": guild} for guild in guilds],
                "application": {"id": "610000000000000001", "flags": 0},
                "_trace": ["x"],
            },
        )


def guild(guild_id: str, **fields: Any) -> dict[str, Any]:
    """The body of a GUILD_CREATE, with the lists that are always there."""
    lists = (
        *("channels", "emojis", "guild_scheduled_events", "members", "presences", "roles"),
        *("soundboard_sounds", "stage_instances", "stickers", "threads", "voice_states"),
    )
    return {
        "id": guild_id,
        "name": "night shift",
        "unavailable": False,
        "member_count": 1,
        **{name: [] for name in lists},
        **({"members": [member(ME)]} | fields),
    }


def member(user: str, **fields: Any) -> dict[str, Any]:
    return {"user": {"id": user, "username": f"user-{user}"}, "roles": [], "nick": None, **fields}
