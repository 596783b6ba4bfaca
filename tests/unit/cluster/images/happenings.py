# SPDX-License-Identifier: Apache-2.0
"""Bodies of all kinds of events that change a guild, by chance, with so few ids that they meet."""

import random
from collections.abc import Callable
from typing import Any, Final

from tests.unit.cluster.images.events import ME, guild

Json = dict[str, Any]

GUILDS: Final = ("1", "2")
_USERS: Final = (ME, "21", "22", "23")
_CHANNELS: Final = ("31", "32")
_THREADS: Final = ("41", "42")
_ROLES: Final = ("51", "52")
_TEXTS: Final = ("", "a", 'quote " \\ é', "{[", "\u2028", None)


class Chance:
    """Makes bodies. ``seed``: the same one makes the same."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._makers: dict[str, Callable[[], Json]] = {
            "GUILD_CREATE": self.guild,
            "GUILD_DELETE": lambda: self._object({"id": self._pick(GUILDS)}, unavailable=True),
            "GUILD_UPDATE": lambda: self._object(
                {"id": self._pick(GUILDS)}, name=self._text(), members=[], roles=self._roles()
            ),
            "GUILD_EMOJIS_UPDATE": lambda: self._in_guild({"emojis": self._some(self._thing)}),
            "GUILD_STICKERS_UPDATE": lambda: self._in_guild({"stickers": self._some(self._thing)}),
            "CHANNEL_PINS_UPDATE": lambda: self._in_guild(
                self._object(
                    {"channel_id": self._pick(_CHANNELS + _THREADS)},
                    last_pin_timestamp=self._text(),
                )
            ),
            "THREAD_LIST_SYNC": self._thread_list_sync,
            "THREAD_MEMBER_UPDATE": lambda: self._in_guild(self._own_member()),
            "THREAD_MEMBERS_UPDATE": self._thread_members_update,
            "GUILD_ROLE_DELETE": lambda: self._in_guild({"role_id": self._pick(_ROLES)}),
            "GUILD_MEMBER_REMOVE": lambda: self._in_guild({"user": self._user()}),
            "VOICE_STATE_UPDATE": self._voice_state_update,
            "GUILD_SOUNDBOARD_SOUNDS_UPDATE": lambda: self._in_guild(
                {"soundboard_sounds": self._some(self._sound)}
            ),
            "SOUNDBOARD_SOUNDS": lambda: self._in_guild(
                {"soundboard_sounds": self._some(self._sound)}
            ),
            **self._all("CHANNEL_{}", ("CREATE", "UPDATE", "DELETE"), self._channel),
            **self._all("THREAD_{}", ("CREATE", "UPDATE", "DELETE"), self._thread),
            **self._all("GUILD_ROLE_{}", ("CREATE", "UPDATE"), lambda: {"role": self._role()}),
            **self._all("GUILD_MEMBER_{}", ("ADD", "UPDATE"), self._member),
            **self._all("PRESENCE_{}", ("UPDATE",), self._presence),
            **self._all("STAGE_INSTANCE_{}", ("CREATE", "UPDATE", "DELETE"), self._thing),
            **self._all("GUILD_SCHEDULED_EVENT_{}", ("CREATE", "UPDATE", "DELETE"), self._event),
            **self._all("GUILD_SOUNDBOARD_SOUND_{}", ("CREATE", "UPDATE", "DELETE"), self._sound),
        }
        self.types = sorted(self._makers)

    def event(self) -> tuple[str, Json]:
        """A type and a body. Guilds rarely go, so that there is time to change them, and people
        often come to voice channels and leave them, which has most to do with all else.
        """
        name = self._pick(self.types)
        if name == "GUILD_DELETE" and self.rng.random() < 0.8:
            name = "GUILD_CREATE"
        if self.rng.random() < 0.15:
            name = self._pick(("VOICE_STATE_UPDATE", "PRESENCE_UPDATE"))
        return name, self._makers[name]()

    def guild(self) -> Json:
        if self.rng.random() < 0.1:
            return {"id": self._pick(GUILDS), "unavailable": True}
        members = self._some(self._member)
        return guild(
            self._pick(GUILDS),
            name=self._text(),
            members=members,
            member_count=self._pick((len(members), 1000)),
            presences=self._some(self._presence),
            channels=self._some(self._channel),
            threads=self._some(self._active_thread),
            roles=self._roles(),
            soundboard_sounds=self._some(self._sound),
        )

    # --- objects ---------------------------------------------------------------------------------

    def _user(self) -> Json:
        return self._object({"id": self._pick(_USERS)}, username=self._text())

    def _member(self) -> Json:
        roles = self.rng.sample(_ROLES, self.rng.randrange(3))
        return self._object(
            {"user": self._user(), "roles": roles}, nick=self._text(), deaf=self._coin()
        )

    def _presence(self) -> Json:
        status = self._pick(("online", "idle", "offline"))
        return self._object({"user": self._user()}, status=status, activities=[])

    def _channel(self) -> Json:
        return self._object({"id": self._pick(_CHANNELS), "type": 0}, name=self._text())

    def _own_member(self) -> Json:
        return {"id": self._pick(_THREADS), "user_id": ME, "flags": self.rng.randrange(4)}

    def _active_thread(self) -> Json:
        body = {"id": self._pick(_THREADS), "parent_id": self._pick(_CHANNELS)}
        return self._object(body, name=self._text(), member=self._own_member())

    def _thread(self) -> Json:
        metadata = {"archived": self.rng.random() < 0.3}
        return self._object(self._active_thread(), newly_created=True, thread_metadata=metadata)

    def _role(self) -> Json:
        return self._object({"id": self._pick(_ROLES)}, name=self._text())

    def _roles(self) -> list[Json]:
        return self._some(self._role)

    def _thing(self) -> Json:
        return self._object({"id": self._pick(("61", "62"))}, topic=self._text())

    def _event(self) -> Json:
        return {"id": self._pick(("71", "72")), "status": self.rng.randrange(1, 5)}

    def _sound(self) -> Json:
        return self._object({"sound_id": self._pick(("81", "82"))}, volume=self.rng.random())

    # --- events ----------------------------------------------------------------------------------

    def _voice_state_update(self) -> Json:
        user = self._pick(_USERS)
        body = {"user_id": user, "channel_id": self._pick((None, *_CHANNELS))}
        member = {**self._member(), "user": {"id": user}}
        return self._in_guild(self._object(body, member=member, self_mute=self._coin()))

    def _thread_list_sync(self) -> Json:
        channels = self.rng.sample(_CHANNELS, self.rng.randrange(3))
        members = [self._own_member() for _ in range(self.rng.randrange(3))]
        body = {"threads": self._some(self._active_thread), "members": members}
        return self._in_guild(self._object(body, channel_ids=channels))

    def _thread_members_update(self) -> Json:
        added = {"user_id": self._pick(_USERS), "presence": None, "member": self._member()}
        body = {"id": self._pick(_THREADS), "member_count": self.rng.randrange(50)}
        removed = [self._pick(_USERS)]
        return self._in_guild(self._object(body, added_members=[added], removed_member_ids=removed))

    # --- chance ----------------------------------------------------------------------------------

    def _pick(self, of: Any) -> Any:
        return self.rng.choice(of)

    def _coin(self) -> bool:
        return self.rng.random() < 0.5

    def _text(self) -> str | None:
        return self.rng.choice(_TEXTS)

    def _object(self, body: Json, **perhaps: Any) -> Json:
        return {**body, **{name: value for name, value in perhaps.items() if self._coin()}}

    def _in_guild(self, body: Json) -> Json:
        return {**body, "guild_id": self._pick(GUILDS)}

    def _some(self, make: Callable[[], Json]) -> list[Json]:
        """Up to three, with different ids."""
        made = [make() for _ in range(self.rng.randrange(4))]
        found: dict[Any, Json] = {}
        for item in made:
            user = item.get("user")
            found.setdefault(user["id"] if user else item.get("sound_id") or item.get("id"), item)
        return list(found.values())

    def _all(
        self, pattern: str, names: tuple[str, ...], make: Callable[[], Json]
    ) -> dict[str, Callable[[], Json]]:
        return {pattern.format(name): lambda: self._in_guild(make()) for name in names}
