# SPDX-License-Identifier: Apache-2.0
"""The session file: what is in it survives, and what cannot be trusted is not given out."""

import os
import select
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.errors import StateError
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER, Session
from discluster.sessions import MAGIC, SessionFile, SessionReader, read_sessions, read_stays

RECORD = 384
HEADER = 64
OLD = Session(session_id="old-" + "o" * 28, resume_url="wss://old.example.net", seq=10, guilds=1)
NEW = Session(session_id="new-session", resume_url="wss://new.example.net/path", seq=99, guilds=7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clusters" / "3" / "sessions"


def test_a_session_is_there_after_a_restart(path: Path) -> None:
    file = SessionFile(path)
    assert file.complaints == ()
    slot = file.slot(5, 8)
    assert slot.load() is None
    slot.save(OLD)
    slot.advance(77)
    slot.note_guilds(4)
    file.close()
    again = SessionFile(path)
    expected = msgspec.structs.replace(OLD, seq=77, guilds=4)
    assert again.slot(5, 8).load() == expected
    assert read_sessions(path, 8) == {5: expected}
    again.close()


def test_a_cleared_session_is_gone_and_its_record_stays_the_shards(path: Path) -> None:
    file = SessionFile(path)
    file.slot(5, 8).save(OLD)
    file.slot(5, 8).clear()
    assert file.slot(5, 8).load() is None
    assert read_sessions(path, 8) == {}
    file.close()


def test_a_session_of_another_shard_count_is_not_this_shards(path: Path) -> None:
    file = SessionFile(path)
    file.slot(0, 8).save(OLD)
    assert file.slot(0, 16).load() is None
    file.close()
    assert read_sessions(path, 16) == {}
    assert read_sessions(path, 8) == {0: OLD}


def test_the_file_is_for_its_owner_and_group_only(path: Path) -> None:
    SessionFile(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not path.with_name("sessions.new").exists()


def record_before_and_after(path: Path) -> tuple[bytes, bytes]:
    file = SessionFile(path)
    slot = file.slot(5, 8)
    slot.save(OLD)
    before = path.read_bytes()[HEADER : HEADER + RECORD]
    slot.save(NEW)
    after = path.read_bytes()[HEADER : HEADER + RECORD]
    file.close()
    return before, after


def put(path: Path, record: bytes) -> dict[int, Session]:
    whole = bytearray(path.read_bytes())
    whole[HEADER : HEADER + RECORD] = record
    path.write_bytes(whole)
    return read_sessions(path, 8)


def test_a_save_that_is_cut_off_anywhere_gives_no_mixed_session(path: Path) -> None:
    """The order of a save: mark free, fixed part, sequence, guilds, checksum."""
    before, after = record_before_and_after(path)
    fixed_at, fixed_end = 20, 20 + 4 + 4 + 2 + 2 + 64 + 256
    free = bytearray(before)
    free[16:20] = bytes(4)
    for cut in range(fixed_at, fixed_end + 1):
        torn = bytearray(free)
        torn[fixed_at:cut] = after[fixed_at:cut]
        assert put(path, bytes(torn)) == {}
    for cut in range(16):
        torn = bytearray(free)
        torn[fixed_at:fixed_end] = after[fixed_at:fixed_end]
        torn[:cut] = after[:cut]
        assert put(path, bytes(torn)) == {}
    assert put(path, after) == {5: NEW}


@settings(max_examples=40, deadline=None)
@given(at=st.integers(16, 20 + 267), flip=st.integers(1, 255))
def test_a_damaged_record_gives_no_session(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "sessions"
    _, after = record_before_and_after(path)
    damaged = bytearray(after)
    damaged[at] ^= flip
    assert put(path, bytes(damaged)) == {}


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_a_truncated_file_is_set_aside_and_told(path: Path, size: int) -> None:
    SessionFile(path).close()
    path.write_bytes(path.read_bytes()[:size])
    assert read_sessions(path, 8) == {}
    file = SessionFile(path)
    (complaint,) = file.complaints
    assert str(path) in complaint
    assert ("it is truncated" in complaint) == (size < 64)
    assert path.with_name("sessions.unusable").stat().st_size == size
    file.slot(0, 8).save(NEW)
    file.close()
    assert read_sessions(path, 8) == {0: NEW}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"#!/bin/s", "it begins with something else"),
        (MAGIC + struct.pack("<I", 2), "its format is version 2"),
        (MAGIC + struct.pack("<III", 1, 384, 255), "its size is wrong"),
    ],
)
def test_a_foreign_or_old_file_is_set_aside_and_told(path: Path, header: bytes, said: str) -> None:
    SessionFile(path).close()
    whole = bytearray(path.read_bytes())
    whole[: len(header)] = header
    path.write_bytes(whole)
    assert read_sessions(path, 8) == {}
    file = SessionFile(path)
    (complaint,) = file.complaints
    assert said in complaint
    assert "identify anew" in complaint
    assert file.slot(0, 8).load() is None
    file.close()


def sealed(session_id: bytes, url: bytes, *, seq: int = 1) -> bytes:
    """A record of shard 5 of 8 with a valid checksum, whatever is in it."""
    fixed = struct.pack("<IIHH64s256s", 5, 8, len(session_id), len(url), session_id, url)
    head = struct.pack("<QIII", seq, 0, 0, zlib.crc32(fixed))
    return (head + fixed + struct.pack("<Q", 1)).ljust(RECORD, b"\0")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (sealed(b"id", b"http://x"), "can be no session"),
        (sealed(b"\xff\x00 ", b"wss://x"), "can be no session"),
        (sealed(b"id", b""), "can be no session"),
        (
            sealed(b"id", b"wss://x", seq=2**64 - 1),
            "a sequence that cannot be: 18446744073709551615",
        ),
        (sealed(b"id", b"wss://x")[:16] + b"\1" * 4 + sealed(b"id", b"wss://x")[20:], "is damaged"),
        (bytes(16) + bytes(4) + sealed(b"id", b"wss://x")[20:], "was cut off"),
    ],
)
def test_a_record_with_nonsense_in_it_is_told_and_wiped(
    path: Path, record: bytes, said: str
) -> None:
    file = SessionFile(path)
    file.slot(5, 8).save(OLD)
    file.slot(6, 8).save(NEW)
    file.close()
    assert put(path, record) == {6: NEW}
    (doubt,) = read_stays(path).doubts
    assert f"{path}: record 0 " in doubt
    assert said in doubt

    again = SessionFile(path)
    assert [said in complaint for complaint in again.complaints] == [True]
    assert again.slot(5, 8).load() is None
    assert read_sessions(path, 8) == {6: NEW}
    assert read_stays(path).doubts == ()
    again.close()


def test_there_is_nothing_to_read_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_sessions(tmp_path / "none", 8) == {}
    assert read_sessions(tmp_path, 8) == {}


def test_a_place_that_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/sessions: the session file cannot be opened") as e:
        SessionFile(tmp_path / "file" / "sessions")
    assert e.value.hint


_AS_NOBODY = """
    import os, sys
    from pathlib import Path
    from discluster.errors import StateError
    from discluster.sessions import SessionFile, read_stays

    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    path = Path(sys.argv[1])
    try:
        SessionFile(path)
    except StateError as error:
        print(error.render())
    print(read_stays(path).fault)
"""


def as_ordinary_user(path: Path) -> list[str]:
    """What opening the file says to somebody who is not root, and what reading it does."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_AS_NOBODY), str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines() or [done.stderr]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where an ordinary user can get to, as pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="discluster-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_a_read_only_directory_is_told(place: Path) -> None:
    (place / "clusters").mkdir(mode=0o555)
    said, fault = as_ordinary_user(place / "clusters" / "sessions")
    assert "clusters/sessions: the session file cannot be opened: Permission denied" in said
    assert "must be writable" in said
    assert fault == "None", "no file yet is no fault"


def test_a_read_only_file_is_told(place: Path) -> None:
    path = place / "sessions"
    SessionFile(path).close()
    path.chmod(0o444)
    said, fault = as_ordinary_user(path)
    assert "sessions: the session file cannot be opened: Permission denied" in said
    assert fault == "None", "reading is all that it can be used for"


def test_a_file_of_somebody_elses_is_told_by_its_reader_too(place: Path) -> None:
    path = place / "sessions"
    SessionFile(path).close()
    path.chmod(0o000)
    if os.geteuid() != 0:
        pytest.skip("only root can have a file that an ordinary user may not read")
    _, fault = as_ordinary_user(path)
    assert "sessions: cannot be read: Permission denied" in fault
    assert "identify anew" in fault


def test_a_full_file_is_told_and_the_oldest_record_that_nobody_needs_makes_room(
    path: Path,
) -> None:
    file = SessionFile(path)
    everybody = frozenset((shard, 1000) for shard in range(MAXIMUM_SHARDS_PER_CLUSTER))
    for shard in range(MAXIMUM_SHARDS_PER_CLUSTER):
        slot = file.slot(shard, 1000)
        slot.save(msgspec.structs.replace(OLD, seq=shard))
        slot.stamp(2 if shard != 7 else 1)
    with pytest.raises(StateError, match="at most 256 shards"):
        file.slot(999, 1000, everybody)
    file.slot(999, 1000, everybody - {(7, 1000), (8, 1000)}).save(NEW)
    sessions = read_sessions(path, 1000)
    assert 7 not in sessions
    assert sessions[999] == NEW
    assert len(sessions) == MAXIMUM_SHARDS_PER_CLUSTER
    assert read_stays(path).stays[999, 1000].entered == 0, "a stamp is not inherited"
    file.close()


@pytest.mark.parametrize(
    "unstorable",
    [
        Session(session_id="x" * 65, resume_url="wss://x", seq=1),
        Session(session_id="x", resume_url="wss://" + "x" * 260, seq=1),
        Session(session_id="é" * 33, resume_url="wss://x", seq=1),
        Session(session_id="x", resume_url="wss://x", seq=-1),
        Session(session_id="x", resume_url="wss://x", seq=2**64),
        Session(session_id="x", resume_url="wss://x", seq=1, guilds=2**32),
        Session(session_id="x", resume_url="wss://x", seq=1, guilds=-1),
    ],
)
def test_a_session_that_does_not_fit_is_as_none(path: Path, unstorable: Session) -> None:
    file = SessionFile(path)
    slot = file.slot(0, 8)
    slot.save(OLD)
    slot.save(unstorable)
    assert slot.load() is None
    slot.save(NEW)
    assert slot.load() == NEW
    file.close()


# --- whose session wins ---------------------------------------------------------------------------


FURTHER = msgspec.structs.replace(OLD, seq=50)


@pytest.mark.parametrize(
    ("stored", "entered", "handed_over", "wins"),
    [
        (None, 0, None, None),
        (None, 0, NEW, NEW),
        (OLD, 5, None, OLD),
        (OLD, 5, NEW, OLD),  # of this very stay: newer than what was handed over before it
        (OLD, 4, NEW, NEW),  # it was elsewhere since
        (OLD, 4, None, OLD),  # nobody knows of a newer one
        (OLD, 4, FURTHER, FURTHER),
        (FURTHER, 4, OLD, FURTHER),  # the same session, less far on
        (None, 5, NEW, None),  # it ended in this stay
    ],
)
def test_the_newest_session_is_taken_over(
    path: Path,
    stored: Session | None,
    entered: int,
    handed_over: Session | None,
    wins: Session | None,
) -> None:
    """The shard was assigned under generation 5; its record is of the stay ``entered``."""
    file = SessionFile(path)
    slot = file.slot(0, 8)
    if stored is not None:
        slot.save(stored)
    slot.stamp(entered)
    slot.take_over(handed_over, 5)
    assert slot.load() == wins
    assert (0, 8) in read_stays(path).stays
    assert read_stays(path).stays[0, 8].entered == 5
    file.close()


def test_what_was_taken_over_is_the_clusters_own_from_then_on(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(0, 8)
    slot.save(OLD)
    slot.take_over(None, 5)
    slot.advance(500)
    slot.take_over(NEW, 5)
    assert slot.load() == msgspec.structs.replace(OLD, seq=500)
    file.close()


def test_a_session_that_ended_is_not_taken_up_again_from_what_was_handed_over(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(0, 8)
    slot.take_over(OLD, 5)
    slot.clear()
    slot.take_over(OLD, 5)
    assert slot.load() is None
    file.close()


def test_a_crash_before_the_stamp_takes_the_handover_once_more(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(0, 8)
    slot.take_over(OLD, 4)
    slot.save(NEW)  # what take_over does first, and then the process was killed
    slot.take_over(NEW, 5)
    assert slot.load() == NEW
    file.close()


def test_a_file_can_be_closed_while_somebody_still_has_a_slot(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(0, 8)
    slot.save(OLD)
    file.close()
    assert read_sessions(path, 8) == {0: OLD}
    assert slot.load() == OLD


def test_a_read_in_the_middle_of_a_save_gives_no_sequence_of_the_session_before(
    path: Path,
) -> None:
    """A RESUME of the new session at the old one's sequence would skip events."""
    file = SessionFile(path)
    slot = file.slot(5, 8)
    slot.save(msgspec.structs.replace(OLD, seq=5000))
    before = path.read_bytes()
    slot.save(msgspec.structs.replace(NEW, seq=1))
    after = path.read_bytes()
    file.close()
    torn = bytearray(after)
    torn[HEADER : HEADER + 8] = before[HEADER : HEADER + 8]
    reads = iter((bytes(torn), after, after))

    reading = SessionReader(read_bytes=lambda _: next(reads)).read(path)
    assert reading.stays[5, 8].session == msgspec.structs.replace(NEW, seq=1)


def test_what_was_seen_before_is_read_once(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(5, 8)
    slot.save(OLD)
    reads = 0

    def read(path: Path) -> bytes:
        nonlocal reads
        reads += 1
        return path.read_bytes()

    reader = SessionReader(read_bytes=read)
    reader.read(path)
    slot.advance(300)
    reads = 0
    assert reader.read(path).stays[5, 8].session == msgspec.structs.replace(OLD, seq=300)
    assert reads == 1
    file.close()


def test_a_session_that_is_another_at_every_look_is_not_given_out(path: Path) -> None:
    file = SessionFile(path)
    slot = file.slot(5, 8)
    looks = 0

    def read(path: Path) -> bytes:
        nonlocal looks
        looks += 1
        slot.save(msgspec.structs.replace(OLD, session_id=f"s{looks}"))
        return path.read_bytes()

    assert SessionReader(read_bytes=read).read(path).stays == {}
    assert looks < 10
    file.close()


# --- processes ------------------------------------------------------------------------------------

_CHILD = """
    import sys
    from pathlib import Path
    from discluster.plan import Session
    from discluster.sessions import SessionFile

    slot = SessionFile(Path(sys.argv[1])).slot(5, 8)
    slot.save(Session(session_id="s", resume_url="wss://x", seq=0))
    seq = 0
    while True:
        seq += 1
        slot.advance(seq)
        if seq % 1000 == 0:
            print(seq, flush=True)
"""


def test_the_sequence_survives_sigkill_to_the_last_store(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_CHILD), str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    try:
        for _ in range(20):
            ready, _, _ = select.select([child.stdout], [], [], 20)
            assert ready
            told = int(child.stdout.readline())
    finally:
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
    told = max([told, *map(int, rest.split(b"\n")[:-1])])
    stored = read_sessions(path, 8)[5].seq
    assert told <= stored <= told + 1000


def test_a_reader_never_sees_half_a_session_while_it_is_written(path: Path) -> None:
    """One session has only 'a' and even sequences, the other only 'b' and odd ones."""
    file = SessionFile(path)
    slot = file.slot(0, 8)
    stop = threading.Event()

    def write() -> None:
        for turn in range(1_000_000):
            if stop.is_set():
                return
            name = "ab"[turn % 2]
            slot.save(Session(session_id=name * 60, resume_url=f"wss://{name * 100}", seq=turn % 2))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            for session in read_sessions(path, 8).values():
                assert session.session_id[0] * 100 == session.resume_url.removeprefix("wss://")
    finally:
        stop.set()
        writer.join()
        file.close()
