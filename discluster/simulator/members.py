# SPDX-License-Identifier: Apache-2.0
"""Who is in a simulated guild, and how a request for its members is answered. Pure.

(Discord: Gateway Events, Request Guild Members and Guild Members Chunk.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from discluster.simulator.bodies import JOINED, bot_user

CHUNK: Final = 1000
MAX_USER_IDS: Final = 100
MAX_QUERY_RESULTS: Final = 100
_FIRST: Final = 300_000_000_000_000_000

Member = dict[str, Any]


def members(count: int) -> list[Member]:
    """`count` members, the same in every guild; the first is the bot itself."""
    users = [bot_user(), *({"id": str(_FIRST + n), **_person(n)} for n in range(1, count))]
    return [
        {
            "user": user,
            "roles": [],
            "joined_at": JOINED,
            "mute": False,
            "flags": 0,
            "deaf": False,
        }
        for user in users[:count]
    ]


def _person(number: int) -> dict[str, Any]:
    return {
        "username": f"member-{number:05d}",
        "global_name": None,
        "discriminator": "0",
        "avatar": None,
        "bot": False,
    }


def chunks(asked: dict[str, Any], guild: str, everybody: Sequence[Member]) -> list[dict[str, Any]]:
    """Bodies of GUILD_MEMBERS_CHUNK that answer the `d` of op 8; at least one."""
    found, missing = _select(asked, everybody)
    parts = [found[start : start + CHUNK] for start in range(0, len(found), CHUNK)] or [[]]
    extra: dict[str, Any] = {"nonce": asked["nonce"]} if isinstance(asked.get("nonce"), str) else {}
    if asked.get("presences") is True:
        extra["presences"] = []
    if "user_ids" in asked:
        extra["not_found"] = missing
    return [
        {
            **extra,
            "members": part,
            "guild_id": guild,
            "chunk_index": index,
            "chunk_count": len(parts),
        }
        for index, part in enumerate(parts)
    ]


def _select(asked: dict[str, Any], everybody: Sequence[Member]) -> tuple[list[Member], list[str]]:
    """Members that are meant, and ids that nobody has."""
    if "user_ids" in asked:
        wanted = asked["user_ids"]
        ids = list(map(str, wanted if isinstance(wanted, list) else [wanted]))[:MAX_USER_IDS]
        known = {str(member["user"]["id"]): member for member in everybody}
        return [known[i] for i in ids if i in known], [i for i in ids if i not in known]
    query, limit = str(asked.get("query", "")), asked.get("limit", 0)
    named = [m for m in everybody if str(m["user"]["username"]).startswith(query)]
    if not query and limit == 0:
        return named, []
    limit = limit if isinstance(limit, int) and 0 < limit < MAX_QUERY_RESULTS else MAX_QUERY_RESULTS
    return named[:limit], []
