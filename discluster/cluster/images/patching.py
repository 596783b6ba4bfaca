# SPDX-License-Identifier: Apache-2.0
"""What a GUILD_CREATE would say now, from the one that came and the events since.

Not followed, since nothing of it is in a GUILD_CREATE that counts:

- messages, also ``last_message_id`` of channels: it changes with every message, which would make
  each of them an event that matters;
- GUILD_MEMBERS_CHUNK: the answer to a request of the bot, which asks again when it starts again.
  Members that GUILD_CREATE does not list would make the image many times as large;
- voice channel status and start time: they are ephemeral, and asked for (Discord: Change Log,
  Voice Channel Status);
- users who subscribe to scheduled events, bans, integrations, invites, webhooks, rules.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from discluster.cluster.images import people, threads
from discluster.cluster.images.draft import Draft, key_of
from discluster.cluster.images.shapes import (
    Id,
    encoded,
    merged,
    read_fields,
    without,
)
from discluster.decoding import DECODE_ERRORS

Patch = Callable[[Draft, bytes], None]
"""Changes a guild by the body of an event; raises DECODE_ERRORS, having changed nothing, if the
body is not what Discord documents."""

# Of the guild as GUILD_CREATE shows it, not as GUILD_UPDATE does.
_EXTRA: Final = frozenset(
    {
        *("joined_at", "large", "unavailable", "member_count", "voice_states", "members"),
        *("channels", "threads", "presences", "stage_instances", "guild_scheduled_events"),
        *("soundboard_sounds", "guild_id"),
    }
)

_COMPLETED, _CANCELED = 3, 4  # Discord: Guild Scheduled Event, Status


class _Event(msgspec.Struct):
    status: Any = None


class _Role(msgspec.Struct):
    role: msgspec.Raw


class _Pins(msgspec.Struct):
    channel_id: Id
    last_pin_timestamp: str | None = None


class _Emojis(msgspec.Struct):
    emojis: list[msgspec.Raw]


class _Stickers(msgspec.Struct):
    stickers: list[msgspec.Raw]


class _Sounds(msgspec.Struct):
    soundboard_sounds: list[msgspec.Raw]


_event: Final = msgspec.json.Decoder(_Event)
_role: Final = msgspec.json.Decoder(_Role)
_pins: Final = msgspec.json.Decoder(_Pins)
_emojis: Final = msgspec.json.Decoder(_Emojis)
_stickers: Final = msgspec.json.Decoder(_Stickers)
_sounds: Final = msgspec.json.Decoder(_Sounds)


def patched(body: bytes, patches: Iterable[tuple[str, bytes]], *, me: str) -> bytes:
    """``body`` of a GUILD_CREATE, changed by events of its guild: pairs of type and body, in order.

    ``me``: the bot's user id. Never raises: what cannot be read changes nothing.
    """
    try:
        draft = Draft(body, me)
    except DECODE_ERRORS:
        return body
    for name, change in patches:
        try:
            PATCHES[name](draft, change)
        except DECODE_ERRORS:
            continue
    return draft.finished()


def _guild_updated(draft: Draft, body: bytes) -> None:
    fields = read_fields(body)
    draft.replace({name: value for name, value in fields.items() if name not in _EXTRA})


def _channel_changed(draft: Draft, body: bytes) -> None:
    channel = without(body, "guild_id")
    draft.items("channels")[key_of("channels", body)] = channel


def _pins_changed(draft: Draft, body: bytes) -> None:
    pins = _pins.decode(body)
    fields = encoded({"last_pin_timestamp": pins.last_pin_timestamp})
    for items in (draft.items("channels"), draft.items("threads")):
        if (channel := items.get(str(pins.channel_id))) is not None:
            items[str(pins.channel_id)] = merged(channel, fields)


def _role_changed(draft: Draft, body: bytes) -> None:
    role = _role.decode(body).role
    draft.items("roles")[key_of("roles", role)] = role


def _event_changed(draft: Draft, body: bytes) -> None:
    """Only events that are to come, or under way, are listed."""
    if _event.decode(body).status in (_COMPLETED, _CANCELED):
        _removed_from("guild_scheduled_events")(draft, body)
    else:
        _put_in("guild_scheduled_events")(draft, body)


def _sounds_changed(draft: Draft, body: bytes) -> None:
    """GUILD_SOUNDBOARD_SOUNDS_UPDATE names those that changed; deleted ones have their event."""
    sounds = _sounds.decode(body).soundboard_sounds
    fresh = {key_of("soundboard_sounds", sound): sound for sound in sounds}
    draft.items("soundboard_sounds").update(fresh)


def _put_in(name: str) -> Patch:
    def put(draft: Draft, body: bytes) -> None:
        draft.items(name)[key_of(name, body)] = msgspec.Raw(body)

    return put


def _removed_from(name: str) -> Patch:
    def remove(draft: Draft, body: bytes) -> None:
        draft.items(name).pop(key_of(name, body), None)

    return remove


PATCHES: Final[Mapping[str, Patch]] = {
    "GUILD_UPDATE": _guild_updated,
    "CHANNEL_CREATE": _channel_changed,
    "CHANNEL_UPDATE": _channel_changed,
    "CHANNEL_DELETE": threads.channel_deleted,
    "CHANNEL_PINS_UPDATE": _pins_changed,
    "THREAD_CREATE": threads.thread_changed,
    "THREAD_UPDATE": threads.thread_changed,
    "THREAD_DELETE": threads.thread_deleted,
    "THREAD_LIST_SYNC": threads.list_synced,
    "THREAD_MEMBER_UPDATE": threads.own_member_updated,
    "THREAD_MEMBERS_UPDATE": threads.members_updated,
    "GUILD_ROLE_CREATE": _role_changed,
    "GUILD_ROLE_UPDATE": _role_changed,
    "GUILD_ROLE_DELETE": people.role_deleted,
    "GUILD_EMOJIS_UPDATE": lambda draft, body: draft.replace(
        {"emojis": _emojis.decode(body).emojis}
    ),
    "GUILD_STICKERS_UPDATE": lambda draft, body: draft.replace(
        {"stickers": _stickers.decode(body).stickers}
    ),
    "GUILD_MEMBER_ADD": people.member_added,
    "GUILD_MEMBER_UPDATE": people.member_updated,
    "GUILD_MEMBER_REMOVE": people.member_removed,
    "PRESENCE_UPDATE": people.presence,
    "VOICE_STATE_UPDATE": people.voice_state,
    "STAGE_INSTANCE_CREATE": _put_in("stage_instances"),
    "STAGE_INSTANCE_UPDATE": _put_in("stage_instances"),
    "STAGE_INSTANCE_DELETE": _removed_from("stage_instances"),
    "GUILD_SCHEDULED_EVENT_CREATE": _event_changed,
    "GUILD_SCHEDULED_EVENT_UPDATE": _event_changed,
    "GUILD_SCHEDULED_EVENT_DELETE": _removed_from("guild_scheduled_events"),
    "GUILD_SOUNDBOARD_SOUND_CREATE": _put_in("soundboard_sounds"),
    "GUILD_SOUNDBOARD_SOUND_UPDATE": _put_in("soundboard_sounds"),
    "GUILD_SOUNDBOARD_SOUND_DELETE": _removed_from("soundboard_sounds"),
    "GUILD_SOUNDBOARD_SOUNDS_UPDATE": _sounds_changed,
    "SOUNDBOARD_SOUNDS": lambda draft, body: draft.replace(
        {"soundboard_sounds": _sounds.decode(body).soundboard_sounds}
    ),
}
"""By type of event: how it changes its guild (Discord: Gateway Events, Receive Events)."""
