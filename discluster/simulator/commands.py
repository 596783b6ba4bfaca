# SPDX-License-Identifier: Apache-2.0
"""Ops 3, 4, 8, 31 and 43: judged and recorded; requests for members and voice are answered."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from discluster.simulator import ledger
from discluster.simulator.bodies import BOT_USER_ID
from discluster.simulator.guilds import shard_of
from discluster.simulator.intents import Intent
from discluster.simulator.members import MAX_USER_IDS, chunks, members
from discluster.simulator.peer import Peer
from discluster.simulator.performer import Performer
from discluster.simulator.sessions import Session
from discluster.simulator.templates import Literal, dump
from discluster.simulator.validate import CommandFrame
from discluster.simulator.world import World

ALL_MEMBERS_PERIOD = 30.0
MAX_NONCE_BYTES = 32


class Commands:
    """What authenticated clients may ask for. (Discord: Gateway Events, Send Events.)"""

    def __init__(self, world: World, performer: Performer) -> None:
        self._world = world
        self._performer = performer
        self._all_members: dict[tuple[int, str], float] = {}

    def handle(self, peer: Peer, session: Session, command: CommandFrame) -> bool:
        """Judge and answer; False means that the connection must be closed (4008)."""
        self._world.ledger.append(ledger.Command(**peer.about, op=command.op))
        if command.op == 3:
            return self._presence(peer)
        if not all(self._on_shard(guild, session) for guild in _guilds(command.data)):
            peer.violation("wrong-shard", f"op {command.op} for a guild of another shard")
            return True
        answer = {4: self._voice, 8: self._members}.get(command.op)
        if answer is not None:
            act = partial(answer, peer, session, command.data)
            self._performer.act("command", peer, lambda _: act())
        return True

    def _presence(self, peer: Peer) -> bool:
        if peer.presences.hit(self._world.timing.now()):
            return True
        peer.violation("presence-rate", "more than 5 presence updates in 20 s")
        return not self._world.settings.presence_limit_closes

    def _on_shard(self, guild: object, session: Session) -> bool:
        if not isinstance(guild, str) or not guild.isdecimal():
            return False
        shard_id, num_shards = session.facts.shard
        return shard_of(int(guild), num_shards) == shard_id

    def _voice(self, peer: Peer, session: Session, data: dict[str, Any]) -> None:
        """The new voice state; whoever joins a channel is told its voice server, too."""
        guild, channel = data["guild_id"], data.get("channel_id")
        state = {
            "user_id": BOT_USER_ID,
            "suppress": False,
            "session_id": session.facts.id[::-1],
            "self_mute": data["self_mute"],
            "self_deaf": data["self_deaf"],
            "mute": False,
            "deaf": False,
            "guild_id": guild,
            "channel_id": channel,
        }
        if session.facts.intents & Intent.GUILD_VOICE_STATES:
            session.append(Literal("VOICE_STATE_UPDATE", dump(state)))
        if channel is not None:
            server = {"token": "simulated", "guild_id": guild, "endpoint": "voice.example:443"}
            session.append(Literal("VOICE_SERVER_UPDATE", dump(server)))
        peer.flush_soon()

    def _members(self, peer: Peer, session: Session, data: dict[str, Any]) -> None:
        (guild,) = map(str, _guilds(data))
        asked = self._judge_members(peer, session, data)
        if asked is None:
            return
        wait = self._wait_for_all_members(session, guild) if _everybody(asked) else 0.0
        if wait:
            extra = {"nonce": asked["nonce"]} if isinstance(asked.get("nonce"), str) else {}
            retry_after = round(self._world.timing.real(wait), 3)
            meta = {**extra, "guild_id": guild}
            body = {"retry_after": retry_after, "opcode": 8, "meta": meta}
            session.append(Literal("RATE_LIMITED", dump(body)))
        else:
            for chunk in chunks(asked, guild, members(self._world.settings.members)):
                session.append(Literal("GUILD_MEMBERS_CHUNK", dump(chunk)))
        peer.flush_soon()

    def _judge_members(
        self, peer: Peer, session: Session, data: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The request as it is answered; None if it is not."""
        nonce, user_ids = data.get("nonce"), data.get("user_ids")
        intents, data = session.facts.intents, dict(data)
        if "query" not in data and user_ids is None:
            peer.violation("members-query", "a request for members without query or user_ids")
            return None
        if isinstance(nonce, str) and len(nonce.encode()) > MAX_NONCE_BYTES:
            peer.violation("nonce-size", "a nonce of more than 32 bytes is ignored")
            del data["nonce"]
        if isinstance(user_ids, list) and len(user_ids) > MAX_USER_IDS:
            peer.violation("user-ids", "more than 100 user ids; the rest is ignored")
        if data.get("presences") and not intents & Intent.GUILD_PRESENCES:
            peer.violation("presences-intent", "presences without the GUILD_PRESENCES intent")
            del data["presences"]
        if _everybody(data) and not intents & Intent.GUILD_MEMBERS:
            peer.violation("members-intent", "all members without the GUILD_MEMBERS intent")
            return None
        return data

    def _wait_for_all_members(self, session: Session, guild: str) -> float:
        """Seconds until this bot may ask for all members of the guild again; 0 for now."""
        key, now = (session.facts.bot, guild), self._world.timing.now()
        last = self._all_members.get(key)
        if last is not None and now - last < ALL_MEMBERS_PERIOD:
            return last + ALL_MEMBERS_PERIOD - now
        self._all_members[key] = now
        return 0.0


def _everybody(data: dict[str, Any]) -> bool:
    return data.get("query") == "" and data.get("limit") == 0


def _guilds(data: dict[str, Any]) -> Iterable[object]:
    """The guild or guilds that a command is about; more than one is only right for op 31."""
    named = data.get("guild_ids", data.get("guild_id"))
    if isinstance(named, list):
        return named if "guild_ids" in data or len(named) == 1 else [None]
    return [named]
