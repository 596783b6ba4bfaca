# SPDX-License-Identifier: Apache-2.0
"""How events about threads change a guild. GUILD_CREATE lists the active ones that the bot may see,
each with the bot's own thread member, if it has joined (Discord: Threads, Gateway Events).
"""

from typing import Any, Final

import msgspec

from discluster.cluster.images.draft import Draft, Items, key_of
from discluster.cluster.images.shapes import (
    HasId,
    HasUserId,
    Id,
    encoded,
    merged,
    read_fields,
    without,
)


class _Metadata(msgspec.Struct):
    archived: Any = False


class _Thread(HasId):
    thread_metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Child(msgspec.Struct):
    parent_id: Id | None = None


class _Sync(msgspec.Struct):
    """THREAD_LIST_SYNC; without ``channel_ids`` it is about the whole guild."""

    threads: list[msgspec.Raw]
    members: tuple[msgspec.Raw, ...] = ()
    channel_ids: list[Id] | None = None


class _Members(HasId):
    """THREAD_MEMBERS_UPDATE."""

    member_count: int | None = None
    added_members: tuple[msgspec.Raw, ...] = ()
    removed_member_ids: tuple[Id, ...] = ()


_thread: Final = msgspec.json.Decoder(_Thread)
_child: Final = msgspec.json.Decoder(_Child)
_sync: Final = msgspec.json.Decoder(_Sync)
_members: Final = msgspec.json.Decoder(_Members)
_has_id: Final = msgspec.json.Decoder(HasId)
_has_user_id: Final = msgspec.json.Decoder(HasUserId)


def thread_changed(draft: Draft, body: bytes) -> None:
    """THREAD_CREATE and THREAD_UPDATE. An archived one is listed no more."""
    _put(draft.items("threads"), without(body, "newly_created"))


def thread_deleted(draft: Draft, body: bytes) -> None:
    """THREAD_DELETE."""
    draft.items("threads").pop(key_of("threads", body), None)


def channel_deleted(draft: Draft, body: bytes) -> None:
    """CHANNEL_DELETE: its threads go with it."""
    channels, threads = draft.items("channels"), draft.items("threads")
    key = key_of("channels", body)
    orphans = _children(threads, {key})
    channels.pop(key, None)
    for orphan in orphans:
        del threads[orphan]


def list_synced(draft: Draft, body: bytes) -> None:
    """THREAD_LIST_SYNC: all active threads of some channels that the bot may see now."""
    sync, threads = _sync.decode(body), draft.items("threads")
    fresh: Items = {}
    for thread in sync.threads:
        _put(fresh, thread)
    for member in sync.members:
        key = _has_id.decode(member).key
        if key in fresh:
            fresh[key] = merged(fresh[key], encoded({"member": member}))
    channels = None if sync.channel_ids is None else {str(channel) for channel in sync.channel_ids}
    for old in list(threads) if channels is None else _children(threads, channels):
        del threads[old]
    threads.update(fresh)


def own_member_updated(draft: Draft, body: bytes) -> None:
    """THREAD_MEMBER_UPDATE: the bot's own."""
    threads, key = draft.items("threads"), _has_id.decode(body).key
    if key in threads:
        threads[key] = merged(threads[key], encoded({"member": without(body, "guild_id")}))


def members_updated(draft: Draft, body: bytes) -> None:
    """THREAD_MEMBERS_UPDATE: who joined or left; of these only the bot itself is listed."""
    change, threads = _members.decode(body), draft.items("threads")
    if change.key not in threads:
        return
    fields = read_fields(threads[change.key])
    if change.member_count is not None:
        fields["member_count"] = encoded(change.member_count)
    if draft.me in map(str, change.removed_member_ids):
        fields.pop("member", None)
    for member in change.added_members:
        if _has_user_id.decode(member).key == draft.me:
            fields["member"] = without(member, "member", "presence")
    threads[change.key] = encoded(fields)


def _put(threads: Items, thread: msgspec.Raw) -> None:
    """What events of a thread do not tell again is whether the bot has joined it."""
    read = _thread.decode(thread)
    if read.thread_metadata.archived:
        threads.pop(read.key, None)
        return
    before = read_fields(threads[read.key]).get("member") if read.key in threads else None
    if before is not None:
        thread = merged(encoded({"member": before}), thread)
    threads[read.key] = thread


def _children(threads: Items, channels: set[str]) -> list[str]:
    return [
        key for key, thread in threads.items() if str(_child.decode(thread).parent_id) in channels
    ]
