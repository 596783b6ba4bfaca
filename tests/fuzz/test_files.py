# SPDX-License-Identifier: Apache-2.0
"""What a hostile cluster puts where CONTROL reads, and what a damaged disk gives back."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from discluster.console import Event
from discluster.control.store import ControlStore
from discluster.errors import StateError
from discluster.lease import read_stored
from discluster.master.access.tokens import TokenDesk
from discluster.master.records.checkpoints import Checkpoints
from discluster.master.records.linefiles import LineFiles
from discluster.master.store import MasterStore
from discluster.messages import Assignment, Held
from discluster.plan import Session
from discluster.sessions import SessionFile, read_stays
from tests.fuzz.contract import check_error, within

DEEP = b"[" * 200_000
HEADER, RECORD = 64, 384


def held(cluster: int) -> Held:
    assignment = Assignment(
        cluster=cluster, generation=1, shard_count=8, gateway_url="wss://g", shards=(1,)
    )
    return Held(assignment=assignment)


def test_assignment_counts_for_the_cluster_whose_name_the_file_has(tmp_path: Path) -> None:
    """And names that Python takes for digits, or for a number, are none of ours."""
    store = ControlStore(tmp_path)
    store.save_held(held(3))
    text = (tmp_path / "assignments" / "3.json").read_text()
    for name in ("4", "\N{SUPERSCRIPT TWO}", "\u0663", "03", "9" * 200):
        (tmp_path / "assignments" / f"{name}.json").write_text(text)
    assert store.load_held() == {3: held(3)}


def forged(path: Path, *, shard: int = 1, count: int = 8, seq: int = 5, entered: int = 1) -> None:
    """A record with a checksum that holds."""
    file = SessionFile(path)
    file.slot(1, 8).save(Session(session_id="s", resume_url="wss://g", seq=1))
    file.close()
    whole = bytearray(path.read_bytes())
    fixed = bytearray(whole[HEADER + 20 : HEADER + 20 + 332])
    struct.pack_into("<II", fixed, 0, shard, count)
    struct.pack_into("<Q", whole, HEADER, seq)
    struct.pack_into("<I", whole, HEADER + 16, zlib.crc32(fixed))
    whole[HEADER + 20 : HEADER + 20 + 332] = fixed
    struct.pack_into("<Q", whole, HEADER + 352, entered)
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "forgery",
    [
        {"shard": 8},
        {"shard": 2**32 - 1, "count": 2**32 - 1},
        {"shard": 70_000, "count": 80_000},
        {"count": 0},
        {"seq": 2**63},
        {"seq": 2**64 - 1},
        {"entered": 2**63},
        {"entered": 2**64 - 1},
    ],
)
def test_forged_record_is_doubted_and_never_told_to_master(
    tmp_path: Path, forgery: dict[str, int]
) -> None:
    """MASTER would refuse the whole report with it, and so the host, again and again."""
    forged(tmp_path / "sound")
    assert len(read_stays(tmp_path / "sound").stays) == 1
    forged(tmp_path / "sessions", **forgery)
    reading = read_stays(tmp_path / "sessions")
    assert reading.stays == {}
    assert "record 0" in reading.doubts[0]
    own = SessionFile(tmp_path / "sessions")
    assert own.complaints
    own.close()


@pytest.mark.parametrize("name", ["orders.json", "identify.json", "tokens.json", "lease.json"])
@pytest.mark.parametrize("content", [DEEP, b'{"x":' + DEEP, b'{"\xff":"\xff"}\xff', b"[1e999]"])
def test_damaged_state_is_told_with_its_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    readers: dict[str, Callable[[], object]] = {
        "orders.json": MasterStore(tmp_path).orders,
        "identify.json": MasterStore(tmp_path).remembered,
        "tokens.json": lambda: TokenDesk(path).create(host=None, ttl=1, now=0),
        "lease.json": lambda: read_stored(path, boot_id="b"),
    }
    with pytest.raises(StateError) as refused:
        readers[name]()
    check_error(refused.value, names=str(path))


@pytest.mark.parametrize("content", [DEEP, b'{"x":' + DEEP, b'{"type":"\xff"}\n{}'])
def test_damaged_events_and_assignments_cost_nothing_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(content)
    assert LineFiles(tmp_path, "events", Event, lines=5).read()[0] == []
    (tmp_path / "assignments").mkdir()
    (tmp_path / "assignments" / "3.json").write_bytes(content)
    assert ControlStore(tmp_path).load_held() == {}


@pytest.mark.parametrize("content", [b"\x91" * 200_000, b"\x84", b"\xc1", b"\xdd\xff\xff\xff\xff"])
def test_damaged_checkpoints_are_refused_whole(content: bytes) -> None:
    """MessagePack says first how many items follow: four billion of them are not there."""
    with within(cpu=1, mebibytes=20), pytest.raises(ValueError, match=r"."):
        Checkpoints().unpack(content)
