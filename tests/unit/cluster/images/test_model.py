# SPDX-License-Identifier: Apache-2.0
"""Whatever happens, in whatever order, an image tells what the plain model tells."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.cluster.images import ShardImage
from discluster.cluster.images.patching import PATCHES
from tests.unit.cluster.images.events import ME, SHARD, Session
from tests.unit.cluster.images.happenings import GUILDS, Chance
from tests.unit.cluster.images.model import Model
from tests.unit.cluster.images.test_image import listed, make_images, told


def test_every_type_that_changes_a_guild_is_in_the_model() -> None:
    assert set(Chance(0).types) == PATCHES.keys() | {"GUILD_CREATE", "GUILD_DELETE"}


@pytest.mark.parametrize("seed", range(60))
def test_image_tells_what_the_model_tells(seed: int, tmp_path: Path) -> None:
    """Also if it is asked in between, and if its process is killed and another one goes on."""
    chance, session, model = Chance(seed), Session(), Model(ME)
    image = make_images(tmp_path).open(SHARD, session_id="", seq=0)
    image.take([session.ready(*GUILDS)])
    model.ready([*GUILDS])
    for _ in range(80):
        batch = [chance.event() for _ in range(chance.rng.randrange(6))]
        image.take([session.event(name, body) for name, body in batch])
        for name, body in batch:
            model.happened(name, body)
        match chance.rng.randrange(5):
            case 0:
                tell_the_same(image, model)
            case 1:
                image = make_images(tmp_path).open(SHARD, session_id=session.id, seq=image.seq)
                assert image.complete
        assert listed(image) == list(model.guilds)
    tell_the_same(image, model)


def tell_the_same(image: ShardImage, model: Model) -> None:
    outages = [guild for guild, body in model.guilds.items() if body is None]
    for name, body in told(image):
        if name == "GUILD_CREATE":
            assert body == model.guilds[body["id"]]
        else:
            assert body["id"] in outages
    shown = {body["id"] for name, body in told(image) if name == "GUILD_CREATE"}
    assert shown == {guild for guild, body in model.guilds.items() if body is not None}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "guild_id", "user", "members", "role", "threads", "channel_id"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Chance(0).types, "READY", "USER_UPDATE", "LEFT_OUT", "NEW_THING"]),
            json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20),
        ),
        max_size=12,
    ),
    json_values,
)
def test_malformed_events_do_no_harm(bodies: list[tuple[str, bytes]], odd: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        image, session = make_images(Path(directory)).open(SHARD, session_id="", seq=0), Session()
        before = {"id": "1", "name": "a", "members": odd, "threads": odd, "member_count": odd}
        image.take([session.ready("1"), session.event("GUILD_CREATE", before)])
        for name, body in bodies:
            in_guild = body
            if body.startswith(b'{"'):
                in_guild = body[:-1] + b',"guild_id":"1"}'
            image.take([session.event(name, in_guild)])
        for dispatch in image.guilds():
            assert dispatch.type in ("GUILD_CREATE", "GUILD_DELETE")
