# SPDX-License-Identifier: Apache-2.0
"""The image of a shard as a sibling cluster left it, or as a damaged disk gives it back.

The first byte tells whether ``data`` is the file, or records in an otherwise sound one, with
checksums that hold.
"""

import tempfile
from functools import cache
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from discluster.cluster.images import Images
from discluster.cluster.images.header import LENGTH, SEQ, packed
from discluster.cluster.images.records import framed
from tests.clock import ManualClock
from tests.fuzz import shapes
from tests.unit.cluster.images.events import SHARD, Session, guild
from tests.unit.cluster.images.happenings import Chance

LONGEST = 4 * 1024
_SESSION, _BOOT = "f00d", "boot"


def target(data: bytes) -> None:
    state = _directory()
    (state / "1" / f"image-{SHARD}").write_bytes(data[1:] if data[:1] == b"r" else _file(data[1:]))
    images = Images(state / "2", siblings=state, limit=1 << 20, boot_id=_BOOT, clock=ManualClock())
    image = images.open(SHARD, session_id=_SESSION, seq=1)
    assert 0 <= images.used <= 1 << 20
    if not image.complete:
        assert images.used == 0
        assert list(image.guilds()) == []
    else:
        body = image.ready(session_id="s", resume_gateway_url="ws://h", shard=SHARD, shard_count=8)
        listed = {entry["id"] for entry in msgspec.json.decode(body)["guilds"]}
        for dispatch in image.guilds():
            assert str(msgspec.json.decode(dispatch.body, type=_HasId).id) in listed
    session = Session(_SESSION)
    image.take([session.ready("1")])
    image.take([session.event("GUILD_CREATE", guild("1"))])
    assert [dispatch.type for dispatch in image.guilds()] == ["GUILD_CREATE"]
    images.close(SHARD)


class _HasId(msgspec.Struct):
    id: str | int


@cache
def _directory() -> Path:
    shared = Path("/dev/shm")
    state = Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))
    for cluster in ("1", "2"):
        (state / cluster).mkdir()
    return state


def _file(data: bytes) -> bytes:
    """``data``: lines, each a type and a body."""
    records = [framed(2, "READY", bytes(Session(_SESSION).ready("1", "2").body))]
    for line in data.split(b"\n"):
        name, _, body = line.partition(b" ")
        records.append(framed(3, name[:50].decode("ascii", errors="ignore"), body))
    body = b"".join(records)
    header = bytearray(packed(shard=SHARD, session_id=_SESSION, boot_id=_BOOT) or b"")
    header[SEQ * 8 : (LENGTH + 1) * 8] = b"".join(
        number.to_bytes(8, "little") for number in (3, len(header) + len(body))
    )
    return bytes(header) + body


def inputs() -> st.SearchStrategy[bytes]:
    def lines(seed: int) -> bytes:
        chance = Chance(seed)
        made = [("GUILD_CREATE", chance.guild()), *(chance.event() for _ in range(8))]
        return b"\n".join(b"%s %s" % (n.encode(), msgspec.json.encode(b)) for n, b in made)

    sound = st.integers(0, 2**32).map(lines)
    return st.one_of(
        shapes.damaged(sound).map(b"s".__add__),
        shapes.damaged(sound.map(_file)).map(b"r".__add__),
    )
