# SPDX-License-Identifier: Apache-2.0
"""The id of a published event: the same whenever the event is replayed, and no other has it."""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Final

from discluster.gateway.events import Event

OWN: Final = frozenset(("READY", "RESUMED"))
"""Events about the session itself. READY holds its id, with which and the bot token it could be
taken over, so they are not published."""

_PLAIN: Final = re.compile(r"[A-Z0-9_]{1,64}")
_ODD: Final = re.compile(r"[^A-Z0-9_]")
_MOST_TYPES: Final = 1_000  # Discord has some 80


class Naming:
    """Remembers, for each shard, the session whose events come."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._sessions: dict[int, tuple[str, bytes]] = {}
        self._types: dict[str, bytes] = {}

    def prefix(self, event: Event) -> bytes:
        """The id up to the sequence: ``SHARD-SESSION-``, with a hash of the session's id."""
        known = self._sessions.get(event.shard)
        if known is not None and known[0] == event.session_id:
            return known[1]
        made = b"%d-%b-" % (event.shard, self._hash(event.session_id))
        self._sessions[event.shard] = (event.session_id, made)
        return made

    def new_session(self, shard: int) -> None:
        """READY came. Without it two sessions without an id would be taken for one."""
        self._sessions.pop(shard, None)

    def type_of(self, event: Event) -> bytes:
        """The type as a part of a subject, of a header or of a key: capitals, digits and ``_``."""
        known = self._types.get(event.type)
        if known is None:
            if len(self._types) >= _MOST_TYPES:
                self._types.clear()
            known = self._types[event.type] = plain_type(event.type)
        return known

    def _hash(self, session_id: str) -> bytes:
        # One without an id cannot be resumed, so nothing of it will be replayed.
        text = session_id or f"none {self._rng.getrandbits(128)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16].encode()


def plain_type(name: str) -> bytes:
    """``name`` with what cannot stand in a subject replaced: it is Discord's word, not ours."""
    if not _PLAIN.fullmatch(name):
        name = _ODD.sub("_", name)[:64] or "_"
    return name.encode()


def published(events: Sequence[Event], naming: Naming) -> list[Event]:
    """Those of ``events`` that are not about the session; ``naming`` hears of new ones."""
    if not any(event.type in OWN for event in events):
        return list(events)
    kept = []
    for event in events:
        if event.type not in OWN:
            kept.append(event)
        elif event.type == "READY":
            naming.new_session(event.shard)
    return kept
