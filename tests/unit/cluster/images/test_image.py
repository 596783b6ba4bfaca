# SPDX-License-Identifier: Apache-2.0
"""READY and the guilds of a shard, as a client that identifies would be told."""

import json
from pathlib import Path
from typing import Any

from discluster.cluster.images import Images, ShardImage
from tests.clock import ManualClock
from tests.unit.cluster.images.events import ME, SHARD, Session, guild, member


def make_images(directory: Path, *, limit: int = 1 << 20) -> Images:
    return Images(directory, siblings=None, limit=limit, boot_id="boot", clock=ManualClock())


def open_image(directory: Path, *, limit: int = 1 << 20) -> ShardImage:
    return make_images(directory, limit=limit).open(SHARD, session_id="", seq=0)


def ready_of(image: ShardImage) -> Any:
    body = image.ready(
        session_id="local", resume_gateway_url="ws://127.0.0.1:7503", shard=SHARD, shard_count=16
    )
    return json.loads(body)


def listed(image: ShardImage) -> list[str]:
    return [entry["id"] for entry in ready_of(image)["guilds"]]


def told(image: ShardImage) -> list[tuple[str, Any]]:
    return [(dispatch.type, json.loads(dispatch.body)) for dispatch in image.guilds()]


def test_there_is_no_image_before_ready(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.event("GUILD_CREATE", guild("1")), session.event("MESSAGE_CREATE", {})])
    assert not image.complete
    assert list(image.guilds()) == []


def test_ready_tells_the_servers_session_and_all_guilds_as_unavailable(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1", "2"), session.event("GUILD_CREATE", guild("1"))])
    ready = ready_of(image)
    assert image.complete
    assert ready["session_id"] == "local"
    assert ready["resume_gateway_url"] == "ws://127.0.0.1:7503"
    assert ready["shard"] == [SHARD, 16]
    assert ready["user"]["id"] == ME
    assert ready["application"] == {"id": "610000000000000001", "flags": 0}
    assert ready["guilds"] == [{"unavailable": True, "id": "1"}, {"unavailable": True, "id": "2"}]


def test_guild_that_did_not_change_is_told_as_it_came(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    body = json.dumps(guild("1", name="a  b"), indent=1).encode()
    image.take([session.ready("1", "2"), session.event("GUILD_CREATE", body)])
    assert [(d.type, d.body) for d in image.guilds()] == [("GUILD_CREATE", body)]


def test_later_events_are_worked_in(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1"))])
    image.take([session.event("GUILD_UPDATE", {"id": "1", "name": "day shift", "members": []})])
    image.take([session.event("CHANNEL_CREATE", {"id": "7", "guild_id": "1", "type": 0})])
    expected = guild("1", name="day shift", channels=[{"id": "7", "type": 0}])
    assert told(image) == [("GUILD_CREATE", expected)]


def test_guild_in_an_outage_is_told_as_deleted_but_listed(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1"))])
    image.take([session.event("GUILD_DELETE", {"id": "1", "unavailable": True})])
    assert listed(image) == ["1"]
    assert told(image) == [("GUILD_DELETE", {"id": "1", "unavailable": True})]


def test_guild_that_the_bot_left_is_told_no_more(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1"))])
    image.take([session.event("GUILD_DELETE", {"id": "1"})])
    assert listed(image) == []
    assert told(image) == []


def test_guild_that_the_bot_joined_is_listed(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready(), session.event("GUILD_CREATE", guild("5"))])
    assert listed(image) == ["5"]


def test_new_session_begins_anew(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1"))])
    second = Session("beef")
    image.take([session.event("MESSAGE_CREATE", {}), second.ready("2")])
    assert (image.session_id, image.seq) == ("beef", 1)
    assert listed(image) == ["2"]
    assert told(image) == []


def test_session_whose_ready_was_not_seen_leaves_no_image(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready("1")])
    image.take([Session("beef").event("MESSAGE_CREATE", {})])
    assert not image.complete


def test_events_that_come_again_change_nothing(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    joined = session.event("GUILD_MEMBER_ADD", {"guild_id": "1", **member("9")})
    image.take([session.ready("1"), session.event("GUILD_CREATE", guild("1"))])
    later = session.event("GUILD_MEMBER_ADD", {"guild_id": "1", **member("8")})
    image.take([later])
    image.take([joined, later])
    assert told(image)[0][1]["member_count"] == 2


def test_bots_own_user_is_as_it_was_updated(tmp_path: Path) -> None:
    image, session = open_image(tmp_path), Session()
    image.take([session.ready(), session.event("USER_UPDATE", {"id": ME, "username": "renamed"})])
    assert ready_of(image)["user"] == {"id": ME, "username": "renamed", "email": None}
