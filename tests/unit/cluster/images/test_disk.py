# SPDX-License-Identifier: Apache-2.0
"""What is found on disk by the process that has the shard next."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discluster.cluster.images import Images, ShardImage
from discluster.cluster.images.header import SAFE_LENGTH, SIZE
from tests.clock import ManualClock
from tests.unit.cluster.images.events import SHARD, Session, guild
from tests.unit.cluster.images.test_image import listed, told
from tests.waiting import wait_for


def make_images(
    state: Path, cluster: int = 1, *, boot_id: str = "boot", clock: ManualClock | None = None
) -> Images:
    """Of one of the clusters of a machine, whose directories are in ``state``."""
    directory = state / str(cluster)
    directory.mkdir(exist_ok=True)
    return Images(
        directory,
        siblings=state,
        limit=100 << 20,
        boot_id=boot_id,
        clock=clock or ManualClock(),
    )


def begin(images: Images, session: Session, *names: str) -> ShardImage:
    """A shard with a guild for each of ``names``."""
    image = images.open(SHARD, session_id="", seq=0)
    image.take([session.ready(*names)])
    for name in names:
        image.take([session.event("GUILD_CREATE", guild(name))])
    return image


def found(images: Images, session: Session, seq: int) -> ShardImage:
    return images.open(SHARD, session_id=session.id, seq=seq)


async def after_another_event(
    image: ShardImage, session: Session, condition: Callable[[], bool]
) -> None:
    """Waits for what a thread does, and what the next event finds done."""

    def looked_again() -> bool:
        image.take([session.event("MESSAGE_CREATE", {})])
        return condition()

    await wait_for(looked_again, 10)


# --- a process that is killed --------------------------------------------------------------------


def test_killed_process_leaves_its_image_up_to_the_last_event(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1", "2")
    image.take([session.event("GUILD_UPDATE", {"id": "2", "name": "later"})])
    image.take([session.event("MESSAGE_CREATE", {})] * 3)
    again = found(make_images(tmp_path), session, image.seq)
    assert again.complete
    assert again.seq == image.seq
    assert told(again) == told(image)
    assert listed(again) == ["1", "2"]


def test_image_that_lacks_events_is_not_used(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1")
    assert not found(make_images(tmp_path), session, image.seq + 1).complete


def test_image_of_another_session_is_not_used(tmp_path: Path) -> None:
    image = begin(make_images(tmp_path), Session(), "1")
    assert not found(make_images(tmp_path), Session("beef"), image.seq).complete


def test_image_that_goes_on_can_be_found_again_and_again(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1")
    for turn in range(5):
        image = found(make_images(tmp_path), session, image.seq)
        image.take([session.event("GUILD_UPDATE", {"id": "1", "name": f"turn {turn}"})])
    assert told(image)[0][1]["name"] == "turn 4"
    assert told(found(make_images(tmp_path), session, image.seq)) == told(image)


def test_file_that_was_cut_off_anywhere_gives_what_is_true_or_nothing(tmp_path: Path) -> None:
    """A write that SIGKILL broke off leaves half a record behind the last sequence that counts."""
    session = Session()
    image = begin(make_images(tmp_path), session, "1")
    path = tmp_path / "1" / f"image-{SHARD}"
    before, states = path.read_bytes(), {image.seq: told(image)}
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "x"})])
    states[image.seq] = told(image)
    whole = path.read_bytes()
    for length in range(SIZE, len(whole)):
        path.write_bytes(before[:SIZE] + whole[SIZE:length])
        again = found(make_images(tmp_path), session, 0)
        assert again.complete == (length >= len(before))
        if again.complete:
            assert told(again) == states[again.seq]


def test_half_a_record_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1")
    path = tmp_path / "1" / f"image-{SHARD}"
    path.write_bytes(path.read_bytes() + b"half a record, or what was left of one")
    image = found(make_images(tmp_path), session, image.seq)
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "later"})])
    assert told(found(make_images(tmp_path), session, image.seq)) == told(image)


def test_damage_in_the_middle_is_noticed(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1", "2")
    path = tmp_path / "1" / f"image-{SHARD}"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        if 8 <= position < 8 * (SAFE_LENGTH + 1) or 244 <= position < SIZE:
            continue  # sequences and lengths, which no checksum covers; nothing
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert not found(make_images(tmp_path), session, image.seq).complete, position


# --- a machine that loses its power --------------------------------------------------------------


async def test_image_of_an_earlier_boot_counts_only_if_it_was_closed(tmp_path: Path) -> None:
    session = Session()
    images = make_images(tmp_path)
    image = begin(images, session, "1")
    seq = image.seq
    assert not found(make_images(tmp_path, boot_id="next"), session, seq).complete
    await images.stop()
    assert found(make_images(tmp_path, boot_id="next"), session, seq).complete


async def test_of_an_earlier_boot_nothing_counts_that_came_after_the_close(tmp_path: Path) -> None:
    session = Session()
    images = make_images(tmp_path)
    seq = begin(images, session, "1").seq
    await images.stop()
    image = found(make_images(tmp_path), session, seq)
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "unsafe"})])
    assert not found(make_images(tmp_path, boot_id="next"), session, seq + 1).complete
    again = found(make_images(tmp_path, boot_id="next"), session, seq)
    assert again.seq == seq
    assert told(again)[0][1]["name"] == "night shift"


async def test_image_of_an_earlier_boot_is_of_this_one_once_it_is_used(tmp_path: Path) -> None:
    session = Session()
    images = make_images(tmp_path)
    seq = begin(images, session, "1").seq
    await images.stop()
    image = found(make_images(tmp_path, boot_id="next"), session, seq)
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "safe"})])
    assert found(make_images(tmp_path, boot_id="next"), session, image.seq).complete


# --- other clusters of the machine ---------------------------------------------------------------


def test_shard_that_moved_takes_its_image_along(tmp_path: Path) -> None:
    session = Session()
    first = make_images(tmp_path, 1)
    image = begin(first, session, "1")
    first.close(SHARD)
    moved = found(make_images(tmp_path, 2), session, image.seq)
    assert moved.complete
    moved.take([session.event("GUILD_UPDATE", {"id": "1", "name": "moved"})])
    back = found(make_images(tmp_path, 1), session, moved.seq)
    assert told(back)[0][1]["name"] == "moved"
    assert told(found(make_images(tmp_path, 1), session, moved.seq)) == told(back)


def test_link_is_not_followed(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path, 1), session, "1")
    aside = tmp_path / "aside"
    (tmp_path / "1").rename(aside)
    (tmp_path / "1").symlink_to(aside)
    assert not found(make_images(tmp_path, 2), session, image.seq).complete
    (tmp_path / "1").unlink()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / f"image-{SHARD}").symlink_to(aside / f"image-{SHARD}")
    assert not found(make_images(tmp_path, 2), session, image.seq).complete


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    os.mkfifo(tmp_path / "1" / f"image-{SHARD}")
    assert not found(make_images(tmp_path, 2), Session(), 1).complete


# --- files that are not needed -------------------------------------------------------------------


def test_file_of_a_shard_that_left_goes_after_an_hour(tmp_path: Path) -> None:
    clock, session = ManualClock(), Session()
    images = make_images(tmp_path, clock=clock)
    begin(images, session, "1")
    path = tmp_path / "1" / f"image-{SHARD}"
    images.close(SHARD)
    clock.jump(3500)
    images.tidy()
    assert path.exists()
    clock.jump(200)
    images.tidy()
    assert not path.exists()


def test_file_of_an_earlier_process_stays_if_its_shard_comes_back(tmp_path: Path) -> None:
    session = Session()
    begin(make_images(tmp_path), session, "1")
    half = tmp_path / "1" / "image-9.0.new"
    half.touch()
    clock = ManualClock()
    images = make_images(tmp_path, clock=clock)
    assert not half.exists()
    found(images, session, 2)
    clock.jump(4000)
    images.tidy()
    assert (tmp_path / "1" / f"image-{SHARD}").exists()


# --- a disk in trouble ---------------------------------------------------------------------------


@contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file can grow beyond ``left`` bytes: writes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_full_disk_is_told_once_and_the_image_is_written_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock, session = ManualClock(), Session()
    images = make_images(tmp_path, clock=clock)
    image = begin(images, session, "1")
    good = image.seq
    with full_disk((tmp_path / "1" / f"image-{SHARD}").stat().st_size + 10):
        for name in ("a", "b"):
            image.take([session.event("GUILD_UPDATE", {"id": "1", "name": name})])
    assert images.in_trouble
    assert told(image)[0][1]["name"] == "b"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "File too large" in caplog.text
    assert found(make_images(tmp_path), session, good).complete
    assert not found(make_images(tmp_path), session, good + 1).complete

    clock.jump(61)
    await after_another_event(image, session, lambda: not images.in_trouble)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert told(found(make_images(tmp_path), session, image.seq)) == told(image)


def test_directory_that_is_not_there_leaves_the_image_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = Images(
        tmp_path / "none", siblings=None, limit=1 << 20, boot_id="b", clock=ManualClock()
    )
    image = begin(images, Session(), "1")
    assert listed(image) == ["1"]
    assert "No such file or directory" in caplog.text


def test_file_that_cannot_take_its_place_is_removed(tmp_path: Path) -> None:
    images = make_images(tmp_path)
    (tmp_path / "1" / f"image-{SHARD}").mkdir()
    image = begin(images, Session(), "1")
    assert images.in_trouble
    assert listed(image) == ["1"]
    assert [path.name for path in (tmp_path / "1").iterdir()] == [f"image-{SHARD}"]
    images.close(SHARD)
    assert not images.in_trouble


# --- files that grow -----------------------------------------------------------------------------


async def test_file_is_written_anew_when_most_of_it_is_void(tmp_path: Path) -> None:
    session = Session()
    image = begin(make_images(tmp_path), session, "1")
    path = tmp_path / "1" / f"image-{SHARD}"
    change = {"id": "1", "description": "x" * 50_000}
    sizes = []
    for _ in range(200):
        image.take([session.event("GUILD_UPDATE", change)])
        sizes.append(path.stat().st_size)
    await after_another_event(image, session, lambda: path.stat().st_size < 2 << 20)
    assert max(sizes) < 200 * 50_000, "it never became smaller"
    assert not list(path.parent.glob("*.new"))
    assert told(found(make_images(tmp_path), session, image.seq)) == told(image)


async def test_events_that_come_while_a_file_is_written_anew_are_in_it(tmp_path: Path) -> None:
    """The process is killed before, while and after that."""
    session = Session()
    image = begin(make_images(tmp_path), session, "1", "2")
    big = json.dumps({"id": "1", "description": "x" * 300_000}).encode()
    for count in range(60):
        image.take([session.event("GUILD_UPDATE", big)])
        image.take([session.event("GUILD_UPDATE", {"id": "2", "afk_timeout": count})])
        if count % 3 == 0:
            again = found(make_images(tmp_path, 2), session, image.seq)
            assert told(again)[1][1]["afk_timeout"] == count
            (tmp_path / "2" / f"image-{SHARD}").unlink()
