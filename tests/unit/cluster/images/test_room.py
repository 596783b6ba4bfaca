# SPDX-License-Identifier: Apache-2.0
"""One bound for the guilds of all shards of a cluster."""

import json
import tracemalloc
from pathlib import Path

import pytest

from discluster.cluster.images import ShardImage
from tests.unit.cluster.images.events import SHARD, Session, guild
from tests.unit.cluster.images.happenings import Chance
from tests.unit.cluster.images.test_image import listed, make_images, told

LARGE = "x" * 3000


def shown(image: ShardImage) -> list[str]:
    return [body["id"] for name, body in told(image) if name == "GUILD_CREATE"]


def test_guilds_that_changed_last_stay_and_the_others_are_listed_all_the_same(
    tmp_path: Path,
) -> None:
    images, session = make_images(tmp_path, limit=14_000), Session()
    image = images.open(SHARD, session_id="", seq=0)
    image.take([session.ready("1", "2", "3")])
    image.take([session.event("GUILD_CREATE", guild(n, name=LARGE)) for n in "123"])
    image.take([session.event("GUILD_UPDATE", {"id": "1", "afk_timeout": 60})])
    image.take([session.event("GUILD_CREATE", guild("4", name=LARGE))])
    assert shown(image) == ["1", "3", "4"]
    assert listed(image) == ["1", "2", "3", "4"]
    assert (image.left_out, images.left_out) == (1, 1)
    assert images.used <= 14_000


def test_shards_share_one_bound(tmp_path: Path) -> None:
    images = make_images(tmp_path, limit=8_000)
    first, second = (images.open(shard, session_id="", seq=0) for shard in (1, 2))
    for image in (first, second):
        session = Session()
        image.take([session.ready("1", "2")])
        image.take([session.event("GUILD_CREATE", guild(n, name=LARGE)) for n in "12"])
    assert (first.left_out, second.left_out) == (2, 0)


def test_guild_larger_than_the_bound_pushes_nobody_out(tmp_path: Path) -> None:
    image, session = make_images(tmp_path, limit=8_000).open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready("1", "2"), session.event("GUILD_CREATE", guild("1"))])
    image.take([session.event("GUILD_CREATE", guild("2", name=LARGE * 3))])
    assert shown(image) == ["1"]
    assert image.left_out == 1


def test_guild_that_was_left_out_comes_back_only_when_discord_sends_it(tmp_path: Path) -> None:
    image, session = make_images(tmp_path, limit=8_000).open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1", name=LARGE * 3))])
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "small"})])
    assert shown(image) == []
    image.take([session.event("GUILD_CREATE", guild("1", name="small"))])
    assert shown(image) == ["1"]
    assert image.left_out == 0


def test_guild_that_was_left_out_does_not_come_back_from_disk(tmp_path: Path) -> None:
    image, session = make_images(tmp_path, limit=8_000).open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready(*"123")])
    image.take([session.event("GUILD_CREATE", guild(n, name=LARGE)) for n in "123"])
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "unseen"})])
    again = make_images(tmp_path, limit=1 << 20).open(SHARD, session_id=session.id, seq=image.seq)
    assert shown(again) == shown(image) == ["2", "3"]
    assert again.left_out == 1


def test_less_room_after_a_restart_leaves_more_out_for_good(tmp_path: Path) -> None:
    image, session = make_images(tmp_path).open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready(*"12")])
    image.take([session.event("GUILD_CREATE", guild(n, name=LARGE)) for n in "12"])
    small = make_images(tmp_path, limit=5_000).open(SHARD, session_id=session.id, seq=image.seq)
    assert shown(small) == ["2"]
    small.take([session.event("MESSAGE_CREATE", {})])
    large = make_images(tmp_path).open(SHARD, session_id=session.id, seq=small.seq)
    assert shown(large) == ["2"]


def test_room_is_free_again_when_guilds_and_shards_go(tmp_path: Path) -> None:
    images = make_images(tmp_path)
    image, session = images.open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready("1", "2")])
    empty = images.used
    image.take([session.event("GUILD_CREATE", guild(n)) for n in "12"])
    image.take([session.event("GUILD_DELETE", {"id": "1"})])
    image.take([session.event("GUILD_DELETE", {"id": "2", "unavailable": True})])
    assert images.used == empty == 0
    image.take([session.event("GUILD_CREATE", guild("2"))])
    assert images.used > 0
    images.close(SHARD)
    assert images.used == 0


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_memory_is_what_is_counted(size: int, tmp_path: Path) -> None:
    """Within a fifth; with small guilds and many events, too."""
    images = make_images(tmp_path, limit=1 << 30)
    image, session = images.open(SHARD, session_id="", seq=0), Session()
    image.take([session.ready()])
    chance = Chance(1)
    tracemalloc.start()
    try:
        for number in range(200):
            body = guild(str(number), name="x" * size)
            image.take([session.event("GUILD_CREATE", json.dumps(body).encode())])
            for _ in range(number % 20):
                name, change = chance.event()
                if not name.startswith("GUILD_"):
                    image.take([session.event(name, {**change, "guild_id": str(number)})])
        measured, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"counted {images.used}, measured {measured} bytes")
    assert images.used == pytest.approx(measured, rel=0.2)
