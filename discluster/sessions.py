# SPDX-License-Identifier: Apache-2.0
"""The session file of a cluster: what RESUME needs, surviving SIGKILL without a system call.

One memory-mapped file with a fixed-size record for each shard. The part that rarely changes has a
checksum; the sequence is one aligned 8-byte store for each handled event, which the kernel keeps
when the process dies. CONTROL reads the file too, also of a cluster that is gone.

Layout, little endian. Header, 64 bytes: magic (8), version u32, record size u32, capacity u32.
Record, 384 bytes: sequence u64, guilds u32, released u32, CRC-32 u32 of what follows, shard u32,
shard count u32, length of the session id u16 and of the URL u16, session id (64), URL (256).
A CRC of 0 marks a free record. A released record is of a shard that this cluster runs no more; it
stays for CONTROL to read.
"""

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final

from discluster.errors import StateError
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER, Session

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
_RELEASED_AT: Final = 12


class SessionFile:
    """The file, open for writing by the one cluster that owns it."""

    def __init__(self, path: Path) -> None:
        """Opens or creates ``path``; ``complaint`` says so if its old content cannot be used.

        Raises:
            StateError: it cannot be created or mapped.
        """
        self.complaint: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self.complaint = _set_aside_if_unusable(path)
            self._map = _open_map(path)
        except OSError as error:
            raise StateError(
                f"{path}: the session file cannot be opened: {error.strerror}",
                hint="the directory must be writable for the user of the clusters",
            ) from None
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")

    def slot(self, shard: int, shard_count: int) -> "SessionSlot":
        """The record of ``shard``: its own if it has one, else a free one.

        A record of another shard count is not this shard's: its guilds are others.
        """
        free = released = None
        for index in range(_CAPACITY):
            record = self._record(index)
            found = _identity(record)
            if found == (shard, shard_count):
                return SessionSlot(self, index, shard, shard_count)
            if found is None and free is None:
                free = index
            elif _is_released(record):
                released = index
        if free is None:
            free = released
        if free is None:
            raise StateError(f"a cluster's session file holds at most {_CAPACITY} shards")
        slot = SessionSlot(self, free, shard, shard_count)
        slot.clear()
        return slot

    def release_all_but(self, shards: frozenset[int], shard_count: int | None = None) -> None:
        """Marks the records of all other shards: they are on their way to somebody else. With
        ``shard_count`` also those of the same numbers among another count: nobody runs these.
        """
        for index in range(_CAPACITY):
            record = self._record(index)
            found = _identity(record)
            if found is None:
                continue
            if found[0] not in shards or shard_count not in (None, found[1]):
                _mark_released(record, True)

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


class SessionSlot:
    """One shard's record."""

    __slots__ = ("_record", "_shard", "_shard_count", "_word", "_words")

    def __init__(self, file: SessionFile, index: int, shard: int, shard_count: int) -> None:
        self._record = file._record(index)
        self._words = file._words
        self._word = (_HEADER.size + index * _RECORD_SIZE) // 8
        self._shard = shard
        self._shard_count = shard_count

    def take_over(self, handed_over: Session | None) -> None:
        """Makes the record this cluster's again, with the newest session of the shard.

        A record that was not released is of this cluster's own last run, and newer than whatever
        was handed over before it. One that was released may be older than what comes back.
        """
        stored = self.load()
        if handed_over is not None and (stored is None or _is_released(self._record)):
            same = stored is not None and stored.session_id == handed_over.session_id
            if not (same and stored is not None and stored.seq >= handed_over.seq):
                self.save(handed_over)
        _mark_released(self._record, False)

    def release(self) -> None:
        """The shard leaves this cluster; the session stays readable for CONTROL."""
        _mark_released(self._record, True)

    def load(self) -> Session | None:
        """The stored session, or None if there is none that can be trusted."""
        return _session(self._record)

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
        """Forgets the session; the record stays this shard's."""
        self._write(b"", b"", None)

    def _write(self, session_id: bytes, url: bytes, session: Session | None) -> None:
        if len(session_id) > 64 or len(url) > 256 or not _fits(session):
            session_id, url, session = b"", b"", None
        _free(self._record)
        fixed = _FIXED.pack(
            self._shard, self._shard_count, len(session_id), len(url), session_id, url
        )
        self._record[_FIXED_AT : _FIXED_AT + _FIXED.size] = fixed
        self.advance(session.seq if session else 0)
        self.note_guilds(session.guilds if session else 0)
        _mark_released(self._record, False)
        struct.pack_into("<I", self._record, _CRC_AT, _checksum(fixed))


def read_sessions(path: Path, shard_count: int) -> dict[int, Session]:
    """All sessions in the file at ``path`` that belong to ``shard_count``; empty if unusable."""
    try:
        data = memoryview(path.read_bytes())
    except OSError:
        return {}
    if _fault(data[: _HEADER.size], len(data)) is not None:
        return {}
    sessions = {}
    for start in range(_HEADER.size, _FILE_SIZE, _RECORD_SIZE):
        record = data[start : start + _RECORD_SIZE]
        identity, session = _identity(record), _session(record)
        if identity and session and identity[1] == shard_count:
            sessions[identity[0]] = session
    return sessions


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
        " shards of this cluster identify anew"
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


def _fits(session: Session | None) -> bool:
    return session is None or (0 <= session.seq < 2**64 and 0 <= session.guilds < 2**32)


def _checksum(fixed: bytes | memoryview) -> int:
    return zlib.crc32(fixed) or 1


def _free(record: memoryview) -> None:
    struct.pack_into("<I", record, _CRC_AT, 0)


def _mark_released(record: memoryview, released: bool) -> None:
    struct.pack_into("<I", record, _RELEASED_AT, released)


def _is_released(record: memoryview) -> bool:
    return bool(struct.unpack_from("<I", record, _RELEASED_AT)[0])


def _identity(record: memoryview) -> tuple[int, int] | None:
    """(shard, shard count) of a record in use whose checksum holds."""
    (crc,) = struct.unpack_from("<I", record, _CRC_AT)
    fixed = record[_FIXED_AT : _FIXED_AT + _FIXED.size]
    if crc == 0 or crc != _checksum(fixed):
        return None
    shard, shard_count, *_ = _FIXED.unpack(fixed)
    return shard, shard_count


def _session(record: memoryview) -> Session | None:
    if _identity(record) is None:
        return None
    seq, guilds = struct.unpack_from("<QI", record, 0)
    _, _, id_length, url_length, session_id, url = _FIXED.unpack_from(record, _FIXED_AT)
    if not id_length or not url_length:
        return None
    return Session(
        session_id=session_id[:id_length].decode(),
        resume_url=url[:url_length].decode(),
        seq=seq,
        guilds=guilds,
    )
