# SPDX-License-Identifier: Apache-2.0
"""The session file of a cluster: what RESUME needs, surviving SIGKILL without a system call.

One memory-mapped file with a fixed-size record for each shard. The part that rarely changes has a
checksum; the sequence is one aligned 8-byte store for each handled event, which the kernel keeps
when the process dies. CONTROL reads the file too, also of a cluster that is gone.

Layout, little endian. Header, 64 bytes: magic (8), version u32, record size u32, capacity u32.
Record, 384 bytes: sequence u64, guilds u32, 4 bytes unused, CRC-32 u32 of what follows, shard u32,
shard count u32, length of the session id u16 and of the URL u16, session id (64), URL (256); then,
outside of the checksum, the stamp of the stay u64 (:mod:`discluster.stays`). A CRC of 0 marks a
record that is free or was cut off while it was written. A record outlives the stay of its shard,
for CONTROL to read, until another shard needs it.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from discluster.errors import StateError
from discluster.files import read_plain_file
from discluster.plan import (
    MAXIMUM_SEQ,
    MAXIMUM_SHARDS,
    MAXIMUM_SHARDS_PER_CLUSTER,
    Session,
    is_sound,
)
from discluster.sessionfaults import record_fault, unknown, unreadable
from discluster.stays import ShardKey, Stay, newest

MAGIC: Final = b"DISCSESS"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIII44x")
_FIXED: Final = struct.Struct("<IIHH64s256s")
_RECORD_SIZE: Final = 384
_CAPACITY: Final = MAXIMUM_SHARDS_PER_CLUSTER
_FILE_SIZE: Final = _HEADER.size + _CAPACITY * _RECORD_SIZE
_CRC_AT: Final = 16
_FIXED_AT: Final = 20
_GUILDS_AT: Final = 8
_ENTERED_AT: Final = _FIXED_AT + _FIXED.size
_BLANK: Final = bytes(_RECORD_SIZE)
_LOOKS: Final = 4
_Fixed = tuple[ShardKey, Session | None]
"""What of a record rarely changes."""


class SessionFile:
    """The file, open for writing by the one cluster that owns it."""

    def __init__(self, path: Path) -> None:
        """Opens or creates ``path``, whose ``directory`` is where the cluster may write;
        ``complaints`` say what of its old content cannot be used.

        Raises:
            StateError: it cannot be created or mapped.
        """
        self.directory = path.parent
        self.complaints: tuple[str, ...] = ()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            unusable = _set_aside_if_unusable(path)
            self._map = _open_map(path)
        except OSError as error:
            raise StateError(
                f"{path}: the session file cannot be opened: {error.strerror}",
                hint="the directory, which CONTROL makes when it plans this cluster, and the file"
                " must be writable for the user of the clusters, and the disk must have room",
            ) from None
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        self.complaints = (unusable,) if unusable else tuple(self._wipe_unusable_records(path))

    def slot(
        self, shard: int, shard_count: int, keep: frozenset[ShardKey] = frozenset()
    ) -> "SessionSlot":
        """The record of ``shard``: its own if it has one, else a free one, else the oldest of a
        shard that is not in ``keep``.

        Raises:
            StateError: all records are of shards in ``keep``.
        """
        free: int | None = None
        others: list[tuple[int, int]] = []
        for index in range(_CAPACITY):
            record = self._record(index)
            found = _identity(record)
            if found == (shard, shard_count):
                return SessionSlot(self, index, shard, shard_count)
            if found is None:
                free = index if free is None else free
            elif found not in keep:
                others.append((_entered(record), index))
        if free is None and not others:
            raise StateError(f"a cluster's session file holds at most {_CAPACITY} shards")
        slot = SessionSlot(self, min(others)[1] if free is None else free, shard, shard_count)
        slot.clear()
        slot.stamp(0)
        return slot

    def close(self) -> None:
        self._words.release()
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            pass  # a slot that somebody still has looks into it; the map goes with the last one

    def _record(self, index: int) -> memoryview:
        start = _HEADER.size + index * _RECORD_SIZE
        return self._view[start : start + _RECORD_SIZE]

    def _wipe_unusable_records(self, path: Path) -> Iterator[str]:
        for index in range(_CAPACITY):
            record = self._record(index)
            fault = _examined(record)
            if isinstance(fault, str):
                record[:] = _BLANK
                yield record_fault(path, index, fault)


class SessionSlot:
    """One shard's record."""

    __slots__ = ("_record", "_shard", "_shard_count", "_word", "_words")

    def __init__(self, file: SessionFile, index: int, shard: int, shard_count: int) -> None:
        self._record = file._record(index)
        self._words = file._words
        self._word = (_HEADER.size + index * _RECORD_SIZE) // 8
        self._shard = shard
        self._shard_count = shard_count

    def take_over(self, handed_over: Session | None, entered: int) -> None:
        """Begins, or goes on with, the stay of the shard that was assigned as ``entered``, with its
        :func:`newest` session.
        """
        stay = _stay(self._record)
        session = newest(stay, handed_over, entered)
        if session is not None and (stay is None or session != stay.session):
            self.save(session)
        # Last: killed before this, it takes what was handed over once more.
        self.stamp(entered)

    def stamp(self, entered: int) -> None:
        """What is in the record is of the stay ``entered``."""
        self._words[self._word + _ENTERED_AT // 8] = entered

    def load(self) -> Session | None:
        """The stored session, or None if there is none that can be trusted."""
        stay = _stay(self._record)
        return stay.session if stay is not None else None

    def save(self, session: Session) -> None:
        """Stores a session whole; a crash in the middle leaves a record without a session."""
        self._write(session.session_id.encode(), session.resume_url.encode(), session)

    def advance(self, seq: int) -> None:
        """The handler took everything up to ``seq``."""
        self._words[self._word] = seq

    def note_guilds(self, guilds: int) -> None:
        """Keeps the number of guilds, which READY told and a RESUME does not tell again."""
        struct.pack_into("<I", self._record, _GUILDS_AT, guilds)

    def clear(self) -> None:
        """Forgets the session; the record stays this shard's, and of the same stay."""
        self._write(b"", b"", None)

    def _write(self, session_id: bytes, url: bytes, session: Session | None) -> None:
        if (session is not None and not is_sound(session)) or len(url) > 256:
            session_id, url, session = b"", b"", None
        struct.pack_into("<I", self._record, _CRC_AT, 0)
        fixed = _FIXED.pack(
            self._shard, self._shard_count, len(session_id), len(url), session_id, url
        )
        self._record[_FIXED_AT : _FIXED_AT + _FIXED.size] = fixed
        self.advance(session.seq if session else 0)
        self.note_guilds(session.guilds if session else 0)
        struct.pack_into("<I", self._record, _CRC_AT, _checksum(fixed))


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody else than its owner finds in a session file.

    ``fault``: why nothing of it can be used. ``doubts``: why some records cannot; this may be
    passing, since their cluster may be writing them this instant.
    """

    stays: dict[ShardKey, Stay] = {}
    fault: str | None = None
    doubts: tuple[str, ...] = ()


class SessionReader:
    """Reads session files again and again; what did not change in a record is not checked again."""

    def __init__(self, *, read_bytes: Callable[[Path], bytes] = read_plain_file) -> None:
        self._read_bytes = read_bytes
        self._known: dict[Path, dict[bytes, _Fixed]] = {}

    def read(self, path: Path) -> Reading:
        """The last stay of every shard that has a record in the file at ``path``. Never raises:
        what cannot be read is a fault, but for a file that does not exist yet.

        No read is atomic against the owner's save: the sequence could be of the session before,
        and a RESUME with it would skip events. So a session that was not seen before counts with
        the sequence of a second look.
        """
        looks = 0
        while True:
            looks += 1
            reading, unsure = self._look(path)
            if not unsure:
                return reading
            if looks == _LOOKS:
                sure = {key: stay for key, stay in reading.stays.items() if key not in unsure}
                return msgspec.structs.replace(reading, stays=sure)

    def _look(self, path: Path) -> tuple[Reading, frozenset[ShardKey]]:
        """With the shards whose session was not there at the look before."""
        try:
            data = memoryview(self._read_bytes(path))
        except FileNotFoundError:
            return Reading(), frozenset()
        except OSError as error:
            return Reading(fault=unreadable(path, error)), frozenset()
        if (fault := _fault(data[: _HEADER.size], len(data))) is not None:
            return Reading(fault=unknown(path, fault)), frozenset()
        stays: dict[ShardKey, Stay] = {}
        doubts = []
        before = self._known.get(path, {})
        sound: dict[bytes, _Fixed] = {}
        for index in range(_CAPACITY):
            start = _HEADER.size + index * _RECORD_SIZE
            found = _examined(data[start : start + _RECORD_SIZE], before, sound)
            if isinstance(found, str):
                doubts.append(record_fault(path, index, found))
            elif found is not None:
                stays[found[0]] = found[1]
        self._known[path] = sound
        fresh = frozenset(sound[raw][0] for raw in sound.keys() - before.keys())
        return Reading(stays=stays, doubts=tuple(doubts)), fresh


def read_stays(path: Path) -> Reading:
    """As :meth:`SessionReader.read`, by somebody who never read the file before."""
    return SessionReader().read(path)


def read_sessions(path: Path, shard_count: int) -> dict[int, Session]:
    """The sessions in the file at ``path`` that belong to ``shard_count``, by shard."""
    return {
        shard: stay.session
        for (shard, count), stay in read_stays(path).stays.items()
        if count == shard_count and stay.session is not None
    }


# --- the whole file ------------------------------------------------------------------------------


def _set_aside_if_unusable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            fault = _fault(memoryview(file.read(_HEADER.size)), path.stat().st_size)
    except FileNotFoundError:
        return None
    if fault is None:
        return None
    aside = path.with_name(path.name + ".unusable")
    path.replace(aside)
    return (
        f"{path}: not a session file of this version ({fault}); kept as {aside.name}, and the"
        " shards of this cluster identify anew (nothing to do)"
    )


def _fault(header: memoryview, size: int) -> str | None:
    if len(header) < _HEADER.size:
        return "it is truncated"
    magic, version, record_size, capacity = _HEADER.unpack(header)
    if magic != MAGIC:
        return "it begins with something else"
    if version != VERSION:
        return f"its format is version {version}"
    if (record_size, capacity) != (_RECORD_SIZE, _CAPACITY) or size != _FILE_SIZE:
        return "its size is wrong"
    return None


# --- bytes ----------------------------------------------------------------------------------------


def _open_map(path: Path) -> mmap.mmap:
    if not path.exists():
        # Complete before it has its name: a crash here leaves no half-made file behind.
        fresh = path.with_name(path.name + ".new")
        header = _HEADER.pack(MAGIC, VERSION, _RECORD_SIZE, _CAPACITY)
        fresh.write_bytes(header.ljust(_FILE_SIZE, b"\0"))
        fresh.chmod(0o640)
        fresh.replace(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, _FILE_SIZE)
    finally:
        os.close(descriptor)


def _checksum(fixed: bytes | memoryview) -> int:
    return zlib.crc32(fixed) or 1


def _identity(record: memoryview) -> ShardKey | None:
    """Whose record it is; None if it is free or its checksum does not hold."""
    (crc,) = struct.unpack_from("<I", record, _CRC_AT)
    fixed = record[_FIXED_AT:_ENTERED_AT]
    if crc == 0 or crc != _checksum(fixed):
        return None
    shard, shard_count, *_ = _FIXED.unpack(fixed)
    return shard, shard_count


def _entered(record: memoryview) -> int:
    entered: int = struct.unpack_from("<Q", record, _ENTERED_AT)[0]
    return entered


def _examined(
    record: memoryview,
    known: Mapping[bytes, _Fixed] = MappingProxyType({}),
    found: dict[bytes, _Fixed] | None = None,
) -> tuple[ShardKey, Stay] | str | None:
    """Whose record it is with the stay in it; what is wrong with it; None if there is nothing.

    ``known``, ``found``: fixed parts that were checked before, and those that are sound now.
    """
    seq, guilds, crc = struct.unpack_from("<QI4xI", record)
    if crc == 0:
        return None if bytes(record) == _BLANK else "was cut off while it was written"
    raw = bytes(record[_FIXED_AT:_ENTERED_AT])
    fixed = known.get(raw) or _checked(raw, crc)
    if isinstance(fixed, str):
        return fixed
    if found is not None:
        found[raw] = fixed
    identity, session = fixed
    entered = _entered(record)
    if entered > MAXIMUM_SEQ:
        return f"of shard {identity[0]} holds a generation that cannot be: {entered}"
    if session is None:
        return (identity, Stay(entered=entered)) if entered else None
    if seq > MAXIMUM_SEQ:
        return f"of shard {identity[0]} holds a sequence that cannot be: {seq}"
    session = Session(
        session_id=session.session_id, resume_url=session.resume_url, seq=seq, guilds=guilds
    )
    return identity, Stay(entered=entered, session=session)


def _checked(raw: bytes, crc: int) -> _Fixed | str:
    """The fixed part of a record, with a session of no sequence; or what is wrong with it."""
    if crc != _checksum(raw):
        return "is damaged"
    shard, shard_count, id_length, url_length, session_id, url = _FIXED.unpack(raw)
    if not shard < shard_count <= MAXIMUM_SHARDS:
        return f"is of shard {shard} of {shard_count}, which cannot be"
    if not id_length and not url_length:
        return (shard, shard_count), None
    session = Session(
        session_id=session_id[:id_length].decode(errors="replace"),
        resume_url=url[:url_length].decode(errors="replace"),
        seq=0,
    )
    if not is_sound(session):
        told = f"{session.session_id!r} at {session.resume_url!r}"
        return f"of shard {shard} holds what can be no session: {told}"
    return (shard, shard_count), session


def _stay(record: memoryview) -> Stay | None:
    """None: no session was ever begun or handed over in it, or none that can be trusted."""
    found = _examined(record)
    return found[1] if isinstance(found, tuple) else None
