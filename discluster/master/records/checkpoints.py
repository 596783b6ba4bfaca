# SPDX-License-Identifier: Apache-2.0
"""The last session of every shard that its host told of: for a shard whose host cannot tell any
more when it has to go elsewhere. Pure.

A checkpoint is some seconds old, so what a host releases in order wins over it; and it counts only
for the stay of the shard on the host that it came from.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.messages import Checkpoint
from discluster.plan import MAXIMUM_SEQ, MAXIMUM_SHARDS, Session, is_sound
from discluster.stays import Stay

_NONE: Final = 0


class Checkpointed(msgspec.Struct, frozen=True, kw_only=True):
    """What ``host`` told last of one shard."""

    host: str
    stay: Stay


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """One shard on disk. ``host``, ``url``: places in their lists; ``session_id`` "": it ended."""

    shard: int
    host: int
    entered: int
    session_id: str = ""
    url: int = _NONE
    seq: int = 0
    guilds: int = 0


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The file. Hosts and resume addresses are few, so they stand in lists of their own."""

    shard_count: int
    hosts: list[str]
    urls: list[str]
    shards: list[_Kept]


class Checkpoints:
    """By shard. ``changed``: something was taken in since :meth:`freeze` was called last."""

    def __init__(self) -> None:
        self.changed = False
        self._shard_count = 0
        self._by_shard: dict[int, Checkpointed] = {}

    @property
    def by_shard(self) -> Mapping[int, Checkpointed]:
        return self._by_shard

    def follow(self, shard_count: int) -> None:
        """The fleet runs so many shards: those of another count are of no use to it."""
        if shard_count != self._shard_count:
            self._shard_count = shard_count
            self.changed = bool(self._by_shard)
            self._by_shard = {}

    def take(self, host: str, told: Checkpoint) -> None:
        """The reports of one host are taken in the order in which it sent them. Of two hosts, the
        one that entered the shard last wins: generations order the stays of the whole fleet.
        """
        if not self._shard_count:
            # MASTER lost its plan: hosts do not tell again what they told before it has one.
            self._shard_count = told.shard_count
        if told.shard_count != self._shard_count:
            return
        for shard, session in told.sessions.items():
            if self._goes_on(shard, session) or is_sound(session):
                self._keep(host, shard, Stay(entered=told.entered.get(shard, 0), session=session))
        for shard in told.ended:
            self._keep(host, shard, Stay(entered=told.entered.get(shard, 0)))

    def _goes_on(self, shard: int, session: Session) -> bool:
        """Whether it is the session that was found sound before, further on. Most are, and to check
        all of a large fleet's every few seconds would take a quarter of MASTER's time.
        """
        known = self._by_shard.get(shard)
        before = known.stay.session if known is not None else None
        if before is None or not before.seq <= session.seq <= MAXIMUM_SEQ:
            return False
        return (before.session_id, before.resume_url, before.guilds) == (
            session.session_id,
            session.resume_url,
            session.guilds,
        )

    def _keep(self, host: str, shard: int, stay: Stay) -> None:
        before = self._by_shard.get(shard)
        # A generation beyond every plan's does not fit into the file.
        if not 0 <= shard < self._shard_count or not 0 <= stay.entered <= MAXIMUM_SEQ:
            return
        if before is None or before.stay.entered <= stay.entered:
            self._by_shard[shard] = Checkpointed(host=host, stay=stay)
            self.changed = True

    def freeze(self) -> "Checkpoints":
        """A copy that stays as it is now, to be packed in another thread."""
        self.changed = False
        copy = Checkpoints()
        copy._shard_count, copy._by_shard = self._shard_count, dict(self._by_shard)
        return copy

    def packed(self) -> bytes:
        """What :meth:`unpack` reads."""
        hosts: dict[str, int] = {}
        urls: dict[str, int] = {}
        shards = []
        for shard, (host, stay) in sorted(
            (shard, (kept.host, kept.stay)) for shard, kept in self._by_shard.items()
        ):
            at = hosts.setdefault(host, len(hosts))
            session = stay.session
            if session is None:
                shards.append(_Kept(shard, at, stay.entered))
                continue
            url = urls.setdefault(session.resume_url, len(urls))
            shards.append(
                _Kept(shard, at, stay.entered, session.session_id, url, session.seq, session.guilds)
            )
        return msgspec.msgpack.encode(
            _Stored(
                shard_count=self._shard_count, hosts=list(hosts), urls=list(urls), shards=shards
            )
        )

    def unpack(self, data: bytes) -> None:
        """Takes up what was packed.

        Raises:
            ValueError: it is damaged; nothing is taken up then.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
            read = {kept.shard: _checkpointed(kept, stored) for kept in stored.shards}
        except (*DECODE_ERRORS, IndexError) as error:
            raise ValueError(str(error)) from None
        if not all(0 <= shard < min(stored.shard_count, MAXIMUM_SHARDS) for shard in read):
            raise ValueError("it names shards that do not exist")
        self._shard_count, self._by_shard = stored.shard_count, read


def _checkpointed(kept: _Kept, stored: _Stored) -> Checkpointed:
    session = None
    if kept.session_id:
        session = Session(
            session_id=kept.session_id,
            resume_url=stored.urls[kept.url],
            seq=kept.seq,
            guilds=kept.guilds,
        )
        if not is_sound(session):
            raise ValueError(f"shard {kept.shard} has what can be no session")
    return Checkpointed(
        host=stored.hosts[kept.host], stay=Stay(entered=kept.entered, session=session)
    )
