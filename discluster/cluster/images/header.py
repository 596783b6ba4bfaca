# SPDX-License-Identifier: Apache-2.0
"""The beginning of an image's file: whose it is, and how far it can be trusted.

Layout, little endian, 256 bytes: magic with version (8); sequence u64, up to which the image is
true, and length u64, up to which the file must be whole; the same two as they were when the file
was last safe on disk, or 0; CRC-32 u32 of what follows; shard u32, length of the session id u16
and of the boot id u16, session id (128), boot id (64).

The first two grow by plain stores into memory that is mapped from the file: without a system call,
and the kernel keeps them when the process is killed. Nothing says in which order a machine that
loses its power had them on disk. Therefore they count only in the boot in which they were stored;
in a later one only what was safe on disk does.
"""

import struct
import zlib
from typing import Final

import msgspec

SIZE: Final = 256
SEQ, LENGTH, SAFE_SEQ, SAFE_LENGTH = 1, 2, 3, 4
"""Where the numbers are, in words of 8 bytes."""

_MAGIC: Final = b"DISCIMG1"
_NUMBERS: Final = struct.Struct("<8sQQQQI")
_FIXED: Final = struct.Struct("<IHH128s64s")
_LONGEST_SESSION: Final = 128
_LONGEST_BOOT: Final = 64


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """As in the file. ``seq`` and ``length`` are those that count in this boot."""

    shard: int
    session_id: str
    seq: int
    length: int
    of_this_boot: bool


def packed(*, shard: int, session_id: str, boot_id: str) -> bytes | None:
    """The header of a file with nothing in it; None for a session id longer than any of Discord's
    is, which nothing is kept of.
    """
    session, boot = session_id.encode(errors="replace"), boot_id.encode()
    if not 0 < len(session) <= _LONGEST_SESSION or len(boot) > _LONGEST_BOOT:
        return None
    fixed = _FIXED.pack(shard, len(session), len(boot), session, boot)
    numbers = _NUMBERS.pack(_MAGIC, 0, SIZE, 0, 0, zlib.crc32(fixed))
    return (numbers + fixed).ljust(SIZE, b"\0")


def unpacked(data: bytes, *, boot_id: str) -> Header | None:
    """What ``data`` says; None if it is no header, or says nothing that counts in this boot."""
    if len(data) < SIZE:
        return None
    magic, seq, length, safe_seq, safe_length, crc = _NUMBERS.unpack_from(data)
    fixed = data[_NUMBERS.size : _NUMBERS.size + _FIXED.size]
    if magic != _MAGIC or crc != zlib.crc32(fixed):
        return None
    shard, session_size, boot_size, session, boot = _FIXED.unpack(fixed)
    of_this_boot = bool(boot[:boot_size] == boot_id.encode())
    if not of_this_boot:
        seq, length = safe_seq, safe_length
    if length < SIZE:
        return None
    return Header(
        shard=shard,
        session_id=session[:session_size].decode(errors="replace"),
        seq=seq,
        length=length,
        of_this_boot=of_this_boot,
    )
