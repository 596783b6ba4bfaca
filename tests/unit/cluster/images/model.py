# SPDX-License-Identifier: Apache-2.0
"""What an image must tell, said in the plainest way: everything parsed, everything at once.

Written from Discord's documentation, beside the code under test and not out of it.
"""

import copy
from typing import Any

Json = dict[str, Any]
EXTRA = (
    *("joined_at", "large", "unavailable", "member_count", "voice_states", "members", "channels"),
    *("threads", "presences", "stage_instances", "guild_scheduled_events", "soundboard_sounds"),
)


class Model:
    """One shard."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.guilds: dict[str, Json | None] = {}

    def ready(self, guilds: list[str]) -> None:
        self.guilds = dict.fromkeys(guilds)

    def happened(self, name: str, body: Json) -> None:
        body = copy.deepcopy(body)
        if name == "GUILD_CREATE":
            self.guilds[body["id"]] = None if body.get("unavailable") else body
        elif name == "GUILD_DELETE":
            if body.get("unavailable"):
                self.guilds[body["id"]] = None
            else:
                self.guilds.pop(body["id"], None)
        elif (guild := self.guilds.get(body.get("guild_id") or body["id"])) is not None:
            getattr(self, name.lower())(guild, body)

    # --- the guild itself ------------------------------------------------------------------------

    def guild_update(self, guild: Json, body: Json) -> None:
        guild.update({name: value for name, value in body.items() if name not in EXTRA})

    def guild_emojis_update(self, guild: Json, body: Json) -> None:
        guild["emojis"] = body["emojis"]

    def guild_stickers_update(self, guild: Json, body: Json) -> None:
        guild["stickers"] = body["stickers"]

    # --- channels and threads --------------------------------------------------------------------

    def channel_create(self, guild: Json, body: Json) -> None:
        del body["guild_id"]
        put(guild["channels"], body)

    channel_update = channel_create

    def channel_delete(self, guild: Json, body: Json) -> None:
        drop(guild["channels"], body["id"])
        guild["threads"] = [t for t in guild["threads"] if t.get("parent_id") != body["id"]]

    def channel_pins_update(self, guild: Json, body: Json) -> None:
        for channel in guild["channels"] + guild["threads"]:
            if channel["id"] == body["channel_id"]:
                channel["last_pin_timestamp"] = body.get("last_pin_timestamp")

    def thread_create(self, guild: Json, body: Json) -> None:
        body.pop("newly_created", None)
        put_thread(guild["threads"], body)

    thread_update = thread_create

    def thread_delete(self, guild: Json, body: Json) -> None:
        drop(guild["threads"], body["id"])

    def thread_list_sync(self, guild: Json, body: Json) -> None:
        synced = body.get("channel_ids")
        kept = [t for t in guild["threads"] if synced is not None and t["parent_id"] not in synced]
        for thread in body["threads"]:
            own = [m for m in body["members"] if m["id"] == thread["id"]]
            if own:
                thread["member"] = own[-1]
            put(kept, thread)
        guild["threads"] = kept

    def thread_member_update(self, guild: Json, body: Json) -> None:
        for thread in guild["threads"]:
            if thread["id"] == body["id"]:
                thread["member"] = {k: v for k, v in body.items() if k != "guild_id"}

    def thread_members_update(self, guild: Json, body: Json) -> None:
        for thread in guild["threads"]:
            if thread["id"] == body["id"]:
                thread["member_count"] = body["member_count"]
                if self.me in body.get("removed_member_ids", []):
                    thread.pop("member", None)
                for added in body.get("added_members", []):
                    if added["user_id"] == self.me:
                        hidden = ("member", "presence")
                        thread["member"] = {k: v for k, v in added.items() if k not in hidden}

    # --- people ----------------------------------------------------------------------------------

    def guild_role_create(self, guild: Json, body: Json) -> None:
        put(guild["roles"], body["role"])

    guild_role_update = guild_role_create

    def guild_role_delete(self, guild: Json, body: Json) -> None:
        drop(guild["roles"], body["role_id"])
        for member in guild["members"]:
            member["roles"] = [role for role in member["roles"] if role != body["role_id"]]

    def guild_member_add(self, guild: Json, body: Json) -> None:
        del body["guild_id"]
        user = body["user"]["id"]
        if find(guild["members"], user) is None:
            everybody = len(guild["members"]) >= guild["member_count"] <= 250
            guild["member_count"] += 1
            if not everybody and user != self.me:
                return
        put(guild["members"], body)

    def guild_member_update(self, guild: Json, body: Json) -> None:
        del body["guild_id"]
        member = find(guild["members"], body["user"]["id"])
        if member is not None:
            member.update(body)
        elif body["user"]["id"] == self.me:
            guild["members"].append(body)

    def guild_member_remove(self, guild: Json, body: Json) -> None:
        guild["member_count"] = max(0, guild["member_count"] - 1)
        for name in ("members", "presences", "voice_states"):
            drop(guild[name], body["user"]["id"])

    def presence_update(self, guild: Json, body: Json) -> None:
        del body["guild_id"]
        user = body["user"]["id"]
        if body.get("status") == "offline":
            drop(guild["presences"], user)
        elif find(guild["members"], user) is not None:
            put(guild["presences"], (find(guild["presences"], user) or {}) | body)

    def voice_state_update(self, guild: Json, body: Json) -> None:
        del body["guild_id"]
        user, member = body["user_id"], body.pop("member", None)
        if body["channel_id"] is None:
            drop(guild["voice_states"], user)
            everybody = len(guild["members"]) >= guild["member_count"] <= 250
            if user != self.me and not everybody and find(guild["presences"], user) is None:
                drop(guild["members"], user)
            return
        if member is not None:
            put(guild["members"], (find(guild["members"], user) or {}) | member)
        if find(guild["members"], user) is not None:
            put(guild["voice_states"], body)

    # --- the rest --------------------------------------------------------------------------------

    def stage_instance_create(self, guild: Json, body: Json) -> None:
        put(guild["stage_instances"], body)

    stage_instance_update = stage_instance_create

    def stage_instance_delete(self, guild: Json, body: Json) -> None:
        drop(guild["stage_instances"], body["id"])

    def guild_scheduled_event_create(self, guild: Json, body: Json) -> None:
        if body["status"] in (3, 4):
            drop(guild["guild_scheduled_events"], body["id"])
        else:
            put(guild["guild_scheduled_events"], body)

    guild_scheduled_event_update = guild_scheduled_event_create

    def guild_scheduled_event_delete(self, guild: Json, body: Json) -> None:
        drop(guild["guild_scheduled_events"], body["id"])

    def guild_soundboard_sound_create(self, guild: Json, body: Json) -> None:
        put(guild["soundboard_sounds"], body)

    guild_soundboard_sound_update = guild_soundboard_sound_create

    def guild_soundboard_sound_delete(self, guild: Json, body: Json) -> None:
        drop(guild["soundboard_sounds"], body["sound_id"])

    def guild_soundboard_sounds_update(self, guild: Json, body: Json) -> None:
        for sound in body["soundboard_sounds"]:
            put(guild["soundboard_sounds"], sound)

    def soundboard_sounds(self, guild: Json, body: Json) -> None:
        guild["soundboard_sounds"] = body["soundboard_sounds"]


def key(item: Json) -> str:
    """What tells an item of a list from the others."""
    user = item.get("user")
    found = user["id"] if user else item.get("user_id") or item.get("sound_id") or item["id"]
    return str(found)


def find(items: list[Json], wanted: str) -> Json | None:
    return next((item for item in items if key(item) == wanted), None)


def put(items: list[Json], item: Json) -> None:
    for index, other in enumerate(items):
        if key(other) == key(item):
            items[index] = item
            return
    items.append(item)


def put_thread(threads: list[Json], thread: Json) -> None:
    before = find(threads, thread["id"])
    if thread.get("thread_metadata", {}).get("archived"):
        drop(threads, thread["id"])
        return
    if before is not None and "member" in before:
        thread = {"member": before["member"]} | thread
    put(threads, thread)


def drop(items: list[Json], wanted: str) -> None:
    items[:] = [item for item in items if key(item) != wanted]
