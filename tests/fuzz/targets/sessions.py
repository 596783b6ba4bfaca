# SPDX-License-Identifier: Apache-2.0
"""The session file of a hostile cluster, read by CONTROL, and a damaged one of its own.

The first byte tells whether ``data`` is the file, or records in an otherwise sound one, with
checksums that hold.
"""

import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from discluster.errors import StateError
from discluster.messages import HostReport, control_to_master, decode, encode
from discluster.plan import MAXIMUM_SEQ, MAXIMUM_SHARDS, is_sound
from discluster.sessions import MAGIC, SessionFile, SessionReader
from tests.fuzz.contract import check_error, printable

LONGEST = 2 * 1024
_RECORD, _CAPACITY, _HEADER = 384, 256, 64
_FIXED = struct.Struct("<IIHH64s256s")


def target(data: bytes) -> None:
    path = _directory() / "sessions"
    path.write_bytes(data[1:] if data[:1] == b"r" else _file(data))
    reading = SessionReader().read(path)
    for text in (*reading.doubts, *([reading.fault] if reading.fault else [])):
        assert printable(text)
    for (shard, count), stay in reading.stays.items():
        assert 0 <= shard < count <= MAXIMUM_SHARDS
        assert 0 <= stay.entered <= MAXIMUM_SEQ
        assert stay.session is None or is_sound(stay.session)
    sessions = {key[0]: s.session for key, s in reading.stays.items() if s.session is not None}
    entered = {key[0]: stay.entered for key, stay in reading.stays.items()}
    report = HostReport(plan_generation=1, released=sessions, entered=entered)
    assert decode(control_to_master, encode(report), peer="we") == report
    try:
        own = SessionFile(path)
    except StateError as error:
        check_error(error, names=str(path))
        return
    slot = own.slot(3, 16)
    slot.load()
    slot.clear()
    own.close()


@cache
def _directory() -> Path:
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))


def _file(data: bytes) -> bytes:
    header = struct.pack("<8sIII44x", MAGIC, 1, _RECORD, _CAPACITY)
    body = bytearray(_CAPACITY * _RECORD)
    for index in range(min(_CAPACITY, len(data) // 32)):
        body[index * _RECORD : (index + 1) * _RECORD] = _record(data[index * 32 :][:32])
    return header + bytes(body)


def _record(seed: bytes) -> bytes:
    """Of 32 bytes: sequence, stamp, shard and count, then what is odd with the texts."""
    seq, entered, shard, count, id_length, url_length, odd = struct.unpack("<QQIIHHI", seed)
    url = (b"wss://g.example/" + seed[28:], b"ws://" + b"a" * 251, seed * 8)[odd % 3]
    name = (b"session", b"s" * 64, seed[:32])[odd // 3 % 3]
    lengths = (id_length, url_length) if odd & 16 else (len(name), len(url))
    fixed = _FIXED.pack(shard, count, *lengths, name, url)
    crc = (zlib.crc32(fixed) or 1) ^ (odd >> 31)
    return struct.pack("<QI4xI", seq, odd, crc) + fixed + struct.pack("<Q", entered) + bytes(24)


def inputs() -> st.SearchStrategy[bytes]:
    large = st.sampled_from([0, 1, 5, 2**63 - 1, 2**63, 2**64 - 1])
    shard = st.sampled_from([0, 3, 15, 16, 65_535, 65_536, 2**32 - 1])
    length = st.sampled_from([0, 1, 64, 65, 256, 257, 65_535])
    record = st.builds(
        struct.Struct("<QQIIHHI").pack,
        large,
        large,
        shard,
        shard,
        length,
        length,
        st.integers(0, 2**32 - 1),
    )
    return st.one_of(
        st.lists(record, max_size=4).map(b"".join), st.binary(max_size=600).map(b"r".__add__)
    )
