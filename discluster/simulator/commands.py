# SPDX-License-Identifier: Apache-2.0
"""Ops 3, 4, 8, 31 and 43: mostly judged and recorded; member requests are answered."""

from __future__ import annotations

from typing import Any

from discluster.simulator import ledger
from discluster.simulator.bodies import JOINED, bot_user
from discluster.simulator.guilds import shard_of
from discluster.simulator.intents import Intent
from discluster.simulator.peer import Peer
from discluster.simulator.sessions import Session
from discluster.simulator.templates import Literal, dump
from discluster.simulator.validate import CommandFrame
from discluster.simulator.world import World

ALL_MEMBERS_PERIOD = 30.0
MAX_USER_IDS = 100
MAX_NONCE_BYTES = 32


class Commands:
    """What authenticated clients may ask for. (Discord: Gateway Events, Send Events.)"""

    def __init__(self, world: World) -> None:
        self._world = world
        self._all_members: dict[tuple[int, str], float] = {}

    def handle(self, peer: Peer, session: Session, command: CommandFrame) -> bool:
        """Judge and answer; False means that the connection must be closed (4008)."""
        self._world.ledger.append(ledger.Command(**peer.about, op=command.op))
        if command.op == 3:
            return self._presence(peer)
        guild = command.data.get("guild_id")
        if guild is not None and not self._on_shard(guild, session):
            peer.violation("wrong-shard", f"op {command.op} for a guild of another shard")
        elif command.op == 8:
            self._members(peer, session, command.data)
        return True

    def _presence(self, peer: Peer) -> bool:
        if peer.presences.hit(self._world.timing.now()):
            return True
        peer.violation("presence-rate", "more than 5 presence updates in 20 s")
        return not self._world.settings.presence_limit_closes

    def _on_shard(self, guild: object, session: Session) -> bool:
        if isinstance(guild, list) and len(guild) == 1:
            guild = guild[0]
        if not isinstance(guild, str) or not guild.isdecimal():
            return False
        shard_id, num_shards = session.facts.shard
        return shard_of(int(guild), num_shards) == shard_id

    def _members(self, peer: Peer, session: Session, data: dict[str, Any]) -> None:
        guild = data["guild_id"] if isinstance(data["guild_id"], str) else data["guild_id"][0]
        nonce = data.get("nonce")
        if isinstance(nonce, str) and len(nonce.encode()) > MAX_NONCE_BYTES:
            peer.violation("nonce-size", "a nonce of more than 32 bytes is ignored")
            nonce = None
        user_ids = data.get("user_ids", [])
        if isinstance(user_ids, list) and len(user_ids) > MAX_USER_IDS:
            peer.violation("user-ids", "more than 100 user ids; the rest is ignored")
        everybody = data.get("query") == "" and data.get("limit") == 0
        if everybody and not session.facts.intents & Intent.GUILD_MEMBERS:
            peer.violation("members-intent", "all members without the GUILD_MEMBERS intent")
            return
        extra = {"nonce": nonce} if isinstance(nonce, str) else {}
        wait = self._wait_for_all_members(session, guild) if everybody else 0.0
        if wait:
            meta = {**extra, "guild_id": guild}
            body = {"retry_after": round(wait, 3), "opcode": 8, "meta": meta}
            session.append(Literal("RATE_LIMITED", dump(body)))
        else:
            session.append(Literal("GUILD_MEMBERS_CHUNK", dump(_chunk(guild, extra))))
        peer.flush()

    def _wait_for_all_members(self, session: Session, guild: str) -> float:
        """Seconds until this bot may ask for all members of the guild again; 0 for now."""
        key, now = (session.facts.bot, guild), self._world.timing.now()
        last = self._all_members.get(key)
        if last is not None and now - last < ALL_MEMBERS_PERIOD:
            return last + ALL_MEMBERS_PERIOD - now
        self._all_members[key] = now
        return 0.0


def _chunk(guild: str, extra: dict[str, str]) -> dict[str, Any]:
    """All that the simulated guild has to show is the bot itself."""
    me = {"user": bot_user(), "roles": [], "joined_at": JOINED, "mute": False, "deaf": False}
    return {
        **extra,
        "not_found": [],
        "members": [me],
        "guild_id": guild,
        "chunk_index": 0,
        "chunk_count": 1,
    }
