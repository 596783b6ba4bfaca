# SPDX-License-Identifier: Apache-2.0
"""Events in a file, one after another.

Record, little endian: CRC-32 u32 of what follows; length of the body u32, sequence u64, length of
the type u8, type, body. A process may be killed, or the disk be full, in the middle of one: what is
read ends before the first that is not whole.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

_CRC: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IQB")


class Record(NamedTuple):
    """An event, and where in the file the next one begins."""

    seq: int
    name: str
    body: bytes
    end: int


def framed(seq: int, name: str, body: bytes) -> bytes:
    """One record."""
    raw = name.encode("ascii")
    head = _HEAD.pack(len(body), seq, len(raw)) + raw
    return b"".join((_CRC.pack(crc32(body, crc32(head))), head, body))


def read_records(file: BinaryIO, *, start: int, end: int) -> Iterator[Record]:
    """The whole records between two positions of ``file``.

    Raises:
        OSError: it cannot be read.
    """
    file.seek(start)
    fixed = _CRC.size + _HEAD.size
    position = start
    while position + fixed <= end:
        (crc,), head = _CRC.unpack(_read(file, _CRC.size)), _read(file, _HEAD.size)
        size, seq, name_size = _HEAD.unpack(head)
        position += fixed + name_size + size
        if position > end:
            return
        name, body = file.read(name_size), file.read(size)
        if len(body) != size or crc != crc32(body, crc32(head + name)) or not name.isascii():
            return
        yield Record(seq, name.decode("ascii"), body, position)


def _read(file: BinaryIO, size: int) -> bytes:
    """``size`` bytes, also of a file that became shorter; then nothing in it will do."""
    return file.read(size).ljust(size, b"\0")
