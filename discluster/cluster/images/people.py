# SPDX-License-Identifier: Apache-2.0
"""How events about people change a guild: members, presences, voice states.

GUILD_CREATE lists the bot itself, whoever is in a voice channel, and more with the intent
GUILD_PRESENCES (Discord: Gateway Events, Guild Create). Whom it does not list, we know nothing of:
events about them count only where they change ``member_count``.
"""

from typing import Any, Final

import msgspec

from discluster.cluster.images.draft import Draft, key_of
from discluster.cluster.images.shapes import HasUserId, encoded, merged, read_ids, without

# The most that `large_threshold` can be: a larger guild never lists everybody.
_MOST_LISTED: Final = 250

_NULL: Final = msgspec.Raw(b"null")


class _Status(msgspec.Struct):
    """No field of a presence is sure to be there, or of its type."""

    status: Any = None


class _Voice(HasUserId):
    channel_id: Any = None
    member: msgspec.Raw = _NULL


class _RoleGone(msgspec.Struct):
    role_id: str


class _Member(msgspec.Struct):
    roles: msgspec.Raw


_status: Final = msgspec.json.Decoder(_Status)
_voice: Final = msgspec.json.Decoder(_Voice)
_role_gone: Final = msgspec.json.Decoder(_RoleGone)
_member: Final = msgspec.json.Decoder(_Member)


def member_added(draft: Draft, body: bytes) -> None:
    """GUILD_MEMBER_ADD; it is also sent for users who are members already."""
    members, key = draft.items("members"), key_of("members", body)
    listed = key in members or key == draft.me or _lists_everybody(draft)
    if key not in members:
        draft.count_members(+1)
    if listed:
        members[key] = without(body, "guild_id")


def member_updated(draft: Draft, body: bytes) -> None:
    """GUILD_MEMBER_UPDATE. Fields that it leaves out did not change."""
    members, key = draft.items("members"), key_of("members", body)
    if key in members or key == draft.me:
        members[key] = merged(members.get(key), without(body, "guild_id"))


def member_removed(draft: Draft, body: bytes) -> None:
    """GUILD_MEMBER_REMOVE."""
    key = key_of("members", body)
    lists = [draft.items(name) for name in ("members", "presences", "voice_states")]
    draft.count_members(-1)
    for items in lists:
        items.pop(key, None)


def presence(draft: Draft, body: bytes) -> None:
    """PRESENCE_UPDATE, of members that are listed: of others there is nobody to show it of."""
    members, presences = draft.items("members"), draft.items("presences")
    key = key_of("presences", body)
    if _status.decode(body).status == "offline":
        presences.pop(key, None)
    elif key in members:
        presences[key] = merged(presences.get(key), without(body, "guild_id"))


def voice_state(draft: Draft, body: bytes) -> None:
    """VOICE_STATE_UPDATE: who comes is listed as a member, too; who leaves, only if they were
    without it. Libraries look up the member of each voice state, so there is none without.
    """
    voice = _voice.decode(body)
    members, states = draft.items("members"), draft.items("voice_states")
    if voice.channel_id is None:
        states.pop(voice.key, None)
        if not _is_listed_anyway(draft, voice.key):
            members.pop(voice.key, None)
        return
    if voice.member != _NULL and key_of("members", voice.member) == voice.key:
        members[voice.key] = merged(members.get(voice.key), voice.member)
    if voice.key in members:
        states[voice.key] = without(body, "guild_id", "member")


def role_deleted(draft: Draft, body: bytes) -> None:
    """GUILD_ROLE_DELETE: nobody has it any more."""
    role = _role_gone.decode(body).role_id
    roles, members = draft.items("roles"), draft.items("members")
    mark = f'"{role}"'.encode()
    had = {key: member for key, member in members.items() if mark in bytes(member)}
    members.update({key: _without_role(member, role) for key, member in had.items()})
    roles.pop(role, None)


def _without_role(member: msgspec.Raw, role: str) -> msgspec.Raw:
    left = [held for held in read_ids(_member.decode(member).roles) if held != role]
    return merged(member, encoded({"roles": left}))


def _lists_everybody(draft: Draft) -> bool:
    count = draft.member_count
    return count is not None and count <= min(len(draft.items("members")), _MOST_LISTED)


def _is_listed_anyway(draft: Draft, key: str) -> bool:
    """Whether GUILD_CREATE would list this member outside of voice channels."""
    return key == draft.me or key in draft.items("presences") or _lists_everybody(draft)
