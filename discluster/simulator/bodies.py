# SPDX-License-Identifier: Apache-2.0
"""Realistic bodies, with seeded variety. Fictitious names and ids throughout.

(Discord: Gateway Events, Receive Events; key order as in captures of the real gateway.)
"""

from __future__ import annotations

import random
from typing import Any

from discluster.simulator.templates import COUNT, GUILD, IDENT, reverse_sorted

APPLICATION_ID = "610000000000000001"
BOT_USER_ID = "610000000000000002"
JOINED = "2024-02-11T18:03:25.927000+00:00"

_NAMES = ("mirabel.q", "tomek_r", "ayşe", "jun.ito", "old_greg", "pixel.fern", "zoë", "k4rl")
_WORDS = [
    "the",
    "raid",
    "starts",
    "in",
    "ten",
    "minutes,",
    "who",
    "is",
    "in?",
    "did",
    "anybody",
    "see",
    "the",
    "new",
    "patch",
    "notes",
    "–",
    "50",
    "%",
    "less",
    "damage!?",
    "haha",
    "no",
    "way",
    "ok",
    "see",
    "you",
    "at",
    "the",
    "usual",
    "place",
    "tomorrow",
    "thanks",
    "🔥",
    "that",
    "was",
    "close",
    "¯\\_(ツ)_/¯",
]
_GAMES = ("Starlane Drift", "Dock Nine", "Tiny Kingdoms", "Hollow Peak")


def _pick_id(rng: random.Random, base: int) -> str:
    return str(base + rng.randrange(10**6))


def _hash(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def user(rng: random.Random) -> dict[str, Any]:
    """A person."""
    return {
        "username": rng.choice(_NAMES),
        "public_flags": rng.choice((0, 0, 64, 256)),
        "primary_guild": None,
        "id": _pick_id(rng, 300_000_000_000_000_000),
        "global_name": rng.choice((None, "Mirabel", "Jun", "Greg the Old")),
        "discriminator": "0",
        "collectibles": None,
        "clan": None,
        "avatar_decoration_data": None,
        "avatar": rng.choice((None, _hash(rng))),
    }


def bot_user() -> dict[str, Any]:
    """The bot itself, as READY and `GET /users/@me` show it."""
    return {
        "verified": True,
        "username": "orbit-bot",
        "primary_guild": None,
        "mfa_enabled": True,
        "id": BOT_USER_ID,
        "global_name": None,
        "flags": 0,
        "email": None,
        "discriminator": "4821",
        "clan": None,
        "bot": True,
        "avatar": None,
    }


def application() -> dict[str, Any]:
    """The bot's application, as `GET /oauth2/applications/@me` shows it."""
    owner = {**bot_user(), "bot": False, "username": "orbit-owner", "id": "300000000000000001"}
    return {
        "id": APPLICATION_ID,
        "name": "orbit-bot",
        "icon": None,
        "description": "A simulated bot.",
        "summary": "",
        "type": None,
        "bot": bot_user(),
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "flags": 565_248,
        "owner": owner,
        "team": None,
        "rpc_origins": [],
        "redirect_uris": [],
        "approximate_guild_count": 0,
    }


def member(rng: random.Random) -> dict[str, Any]:
    """The guild's view of a person, without the user."""
    roles = [_pick_id(rng, 910_100_000_000_000_000) for _ in range(rng.randrange(4))]
    return {
        "roles": roles,
        "premium_since": None,
        "pending": False,
        "nick": rng.choice((None, None, "Miri", "the boss")),
        "mute": False,
        "joined_at": JOINED,
        "flags": 0,
        "deaf": False,
        "communication_disabled_until": None,
        "banner": None,
        "avatar": None,
    }


def _member_with_user(rng: random.Random) -> dict[str, Any]:
    return {"user": user(rng), **member(rng)}


def _content(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=rng.randrange(3, 30)))


def _channel_id(rng: random.Random) -> str:
    return _pick_id(rng, 910_200_000_000_000_000)


def counted(body: dict[str, Any]) -> dict[str, Any]:
    """The body in captured key order, with the guild and its event counter at the end."""
    return {**reverse_sorted(body), "guild_id": GUILD, "_count": COUNT}


def message(rng: random.Random, *, edited: bool) -> dict[str, Any]:
    """MESSAGE_CREATE, or MESSAGE_UPDATE with the embed that a link unfurled to."""
    embed = {
        "url": "https://example.com/article",
        "type": "article",
        "title": _content(rng),
        "description": _content(rng),
    }
    mention = {**user(rng), "member": member(rng)}
    return {
        "type": 0,
        "tts": False,
        "timestamp": "2026-05-17T12:41:07.512000+00:00",
        "pinned": False,
        "nonce": _pick_id(rng, 1_500_000_000_000_000_000),
        "mentions": [mention] if rng.random() < 0.2 else [],
        "mention_roles": [],
        "mention_everyone": False,
        "member": member(rng),
        "id": IDENT,
        "flags": 0,
        "embeds": [embed] if edited else [],
        "edited_timestamp": None,
        "content": _content(rng),
        "components": [],
        "channel_type": 0,
        "channel_id": GUILD,
        "author": user(rng),
        "attachments": [],
    }


def without_content(body: dict[str, Any]) -> dict[str, Any]:
    """A message as sessions without MESSAGE_CONTENT see it. (Discord: Gateway, Message Content.)"""
    return {**body, "content": "", "embeds": [], "attachments": [], "components": []}


def presence(rng: random.Random) -> dict[str, Any]:
    """PRESENCE_UPDATE: of the user only the id is sure."""
    status = rng.choice(("online", "idle", "dnd"))
    game = {
        "type": 0,
        "timestamps": {"start": 1_779_021_600_000},
        "state": "In a match",
        "session_id": _hash(rng),
        "name": rng.choice(_GAMES),
        "id": f"{rng.getrandbits(64):016x}",
        "details": "Ranked duos 2-1",
        "created_at": 1_779_021_601_123,
        "assets": {"large_text": "Dock Nine", "large_image": "910000000000009001"},
        "application_id": "310000000000000500",
    }
    return {
        "user": {"id": _pick_id(rng, 300_000_000_000_000_000)},
        "status": status,
        "client_status": {rng.choice(("desktop", "mobile")): status},
        "activities": [game] if rng.random() < 0.4 else [],
    }


def typing(rng: random.Random) -> dict[str, Any]:
    """TYPING_START; `timestamp` is in seconds."""
    return {
        "user_id": _pick_id(rng, 300_000_000_000_000_000),
        "timestamp": 1_779_021_660,
        "member": _member_with_user(rng),
        "channel_id": GUILD,
    }


def voice_state(rng: random.Random) -> dict[str, Any]:
    """VOICE_STATE_UPDATE."""
    return {
        "member": _member_with_user(rng),
        "user_id": _pick_id(rng, 300_000_000_000_000_000),
        "suppress": False,
        "session_id": _hash(rng),
        "self_video": False,
        "self_mute": rng.random() < 0.5,
        "self_deaf": False,
        "request_to_speak_timestamp": None,
        "mute": False,
        "deaf": False,
        "channel_id": rng.choice((None, _channel_id(rng))),
    }


def reaction(rng: random.Random, *, added: bool) -> dict[str, Any]:
    """MESSAGE_REACTION_ADD or _REMOVE."""
    body: dict[str, Any] = {
        "user_id": _pick_id(rng, 300_000_000_000_000_000),
        "type": 0,
        "message_id": _pick_id(rng, 1_505_000_000_000_000_000),
        "emoji": {"name": rng.choice(("🔥", "👍", "😂")), "id": None},
        "channel_id": GUILD,
        "burst": False,
    }
    if added:
        body["message_author_id"] = _pick_id(rng, 300_000_000_000_000_000)
        body["member"] = _member_with_user(rng)
    return body


def member_change(rng: random.Random) -> dict[str, Any]:
    """GUILD_MEMBER_ADD and GUILD_MEMBER_UPDATE."""
    return {**_member_with_user(rng), "unusual_dm_activity_until": None}


def member_remove(rng: random.Random) -> dict[str, Any]:
    """GUILD_MEMBER_REMOVE."""
    return {"user": user(rng)}


def message_delete(rng: random.Random) -> dict[str, Any]:
    """MESSAGE_DELETE."""
    return {"id": _pick_id(rng, 1_505_000_000_000_000_000), "channel_id": GUILD}


def channel(rng: random.Random) -> dict[str, Any]:
    """CHANNEL_UPDATE."""
    return {
        "version": 1_671_665_759_998,
        "type": 0,
        "topic": _content(rng),
        "rate_limit_per_user": 0,
        "position": rng.randrange(40),
        "permission_overwrites": [
            {
                "type": 0,
                "id": _pick_id(rng, 910_100_000_000_000_000),
                "deny": "1024",
                "allow": "0",
            }
        ],
        "parent_id": _channel_id(rng),
        "nsfw": False,
        "name": "general",
        "last_message_id": _pick_id(rng, 1_505_000_000_000_000_000),
        "id": GUILD,
        "flags": 0,
    }


def interaction(rng: random.Random) -> dict[str, Any]:
    """INTERACTION_CREATE; its `token` would be a live secret, here it is noise."""
    permissions = "2248473465835073"
    return {
        "version": 1,
        "type": 2,
        "token": "interaction-" + _hash(rng),
        "member": {**_member_with_user(rng), "permissions": permissions},
        "locale": "en-GB",
        "id": IDENT,
        "guild_locale": "en-US",
        "entitlements": [],
        "entitlement_sku_ids": [],
        "data": {
            "type": 1,
            "options": [{"value": _content(rng), "type": 3, "name": "query"}],
            "name": "play",
            "id": "1100000000000000900",
        },
        "context": 0,
        "channel_id": GUILD,
        "channel": {**channel(rng), "permissions": permissions},
        "authorizing_integration_owners": {"1": _pick_id(rng, 300_000_000_000_000_000)},
        "attachment_size_limit": 10_485_760,
        "application_id": APPLICATION_ID,
        "app_permissions": "2230821713313345",
    }


def guild_create(rng: random.Random) -> dict[str, Any]:
    """GUILD_CREATE; with more than 32 keys its order is that of a hash, not sorted."""
    me = {**member(rng), "user": bot_user()}
    text = {**channel(rng), "type": 0, "name": "general"}
    other = {**channel(rng), "id": _channel_id(rng)}
    everyone: dict[str, Any] = {
        "version": 0, "unicode_emoji": None, "tags": {}, "position": 0,
        "permissions": "1071698660929", "name": "@everyone", "mentionable": False,
        "managed": False, "id": GUILD, "icon": None, "hoist": False, "flags": 0, "color": 0,
    }  # fmt: skip
    return {
        "mfa_level": 0, "nsfw": False, "voice_states": [], "region": "deprecated",
        "premium_tier": 0, "emojis": [], "stickers": [],
        "members": [reverse_sorted(me), reverse_sorted(_member_with_user(rng))],
        "explicit_content_filter": 2, "max_video_channel_users": 25, "banner": None,
        "splash": None, "application_id": None, "nsfw_level": 0, "large": True,
        "application_command_counts": {"1": 12},
        "channels": [reverse_sorted(text), reverse_sorted(other)],
        "default_message_notifications": 1, "afk_timeout": 300,
        "premium_progress_bar_enabled": False, "max_stage_video_channel_users": 50,
        "stage_instances": [], "id": GUILD, "max_members": 25_000_000, "hub_type": None,
        "presences": [], "joined_at": JOINED, "preferred_locale": "en-US",
        "icon": _hash(rng), "threads": [], "embedded_activities": [],
        "member_count": rng.randrange(20, 60_000), "premium_subscription_count": 1,
        "public_updates_channel_id": None, "description": None, "lazy": True,
        "guild_scheduled_events": [], "owner_id": _pick_id(rng, 300_000_000_000_000_000),
        "unavailable": False, "roles": [everyone], "afk_channel_id": None,
        "verification_level": 1, "vanity_url_code": None,
        "name": rng.choice(("Starlane Drifters", "Café Müller", "The % Club", "night shift")),
        "discovery_splash": None, "system_channel_flags": 0, "system_channel_id": None,
        "rules_channel_id": None, "soundboard_sounds": [], "features": ["COMMUNITY"],
    }  # fmt: skip


def ready(
    *, session_id: str, resume_url: str, shard: tuple[int, int] | None, guild_ids: list[int]
) -> dict[str, Any]:
    """READY: all guilds unavailable, and the fields that are not documented but seen."""
    return {
        "v": 10,
        "user_settings": {},
        "user": bot_user(),
        **({"shard": list(shard)} if shard else {}),
        "session_type": "normal",
        "session_id": session_id,
        "resume_gateway_url": resume_url,
        "relationships": [],
        "private_channels": [],
        "presences": [],
        "guilds": [{"unavailable": True, "id": str(guild)} for guild in guild_ids],
        "guild_join_requests": [],
        "geo_ordered_rtc_regions": ["rotterdam", "frankfurt"],
        "game_relationships": [],
        "auth": {},
        "application": {"id": APPLICATION_ID, "flags": 565_248},
        "_trace": ['["gateway-simulated-1",{"micros":1200}]'],
    }
