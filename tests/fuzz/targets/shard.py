# SPDX-License-Identifier: Apache-2.0
"""A whole shard, and Discord sends it a line of text for each message, before and after READY.

Whatever that is, the shard goes on, and what it stores of its session can be resumed with.
"""

from hypothesis import strategies as st

from discluster.gateway.urls import usable_resume_url
from discluster.plan import is_sound
from tests.clock import settle
from tests.fuzz import masters, shapes
from tests.unit.gateway.fakes import GATEWAY, Rig

LONGEST = 4 * 1024


def target(data: bytes) -> None:
    with masters.quiet():
        masters.run(_scene(data.decode(errors="replace").split("\n")[:12]))


async def _scene(lines: list[str]) -> None:
    async with Rig() as rig:
        assert rig.task is not None
        if lines[0].startswith("#"):
            await rig.become_ready()
        for line in lines:
            rig.socket.push(line)
            await settle(10)
        await rig.clock.advance(2)
        assert not rig.task.done() or rig.state == "fatal", rig.task
        for session in rig.sessions.saved:
            assert is_sound(session)
            url = session.resume_url
            assert url == GATEWAY or usable_resume_url(url, gateway_url=GATEWAY) == url


def inputs() -> st.SearchStrategy[bytes]:
    hello = st.fixed_dictionaries(
        {"op": st.just(10), "d": st.fixed_dictionaries({"heartbeat_interval": shapes.odd})}
    )
    guild = st.fixed_dictionaries({"id": shapes.odd}, optional={"unavailable": shapes.odd})
    ready = st.fixed_dictionaries(
        {"session_id": st.one_of(st.just("s"), shapes.odd)},
        optional={
            "resume_gateway_url": st.one_of(st.just("wss://edge.example"), shapes.odd),
            "guilds": st.one_of(st.lists(guild, max_size=3), shapes.odd),
        },
    )
    event = st.fixed_dictionaries(
        {
            "op": st.just(0),
            "t": st.sampled_from(["READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE", "", "X"]),
            "s": st.one_of(shapes.numbers, shapes.odd),
            "d": st.one_of(ready, guild, shapes.odd),
        }
    )
    other = st.fixed_dictionaries(
        {"op": st.sampled_from([1, 7, 9, 11, 5])}, optional={"d": shapes.odd}
    )
    line = shapes.as_json(st.one_of(hello, event, event, event, other))
    greeting = st.just(b'{"op":10,"d":{"heartbeat_interval":41250}}')
    begin: st.SearchStrategy[list[bytes]] = st.one_of(
        st.just([b"#"]), greeting.map(lambda line: [line]), st.builds(list)
    )
    all_ = st.builds(lambda a, b: b"\n".join([*a, *b]), begin, st.lists(line, max_size=5))
    return shapes.damaged(all_)
